//! How requests come in.

use std::path::Path;

use super::*;

fn certificate(folder: &Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |kind: &str, text: String| {
        let path = folder.join(format!("{name}.{kind}"));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (write("cert", made.cert.pem()), write("key", made.signing_key.serialize_pem()))
}

#[test]
fn by_default_only_pages_of_this_machine_may_ask() {
    let Transport { tls, proxies, origins, rate_limit } = ok(&[]).transport;
    assert_eq!((tls, proxies, rate_limit), (None, command_api::Proxies::default(), None));
    assert_eq!(origins.to_string(), "http://localhost:*,http://127.0.0.1:*");

    let network = ok(&[("HTTP_HOST", "0.0.0.0"), ("ALLOW_OPEN", "true")]);
    assert_eq!(network.transport.origins, command_api::Origins::default());
    assert_eq!(shown(&network, "CORS_ORIGINS"), "none");
    assert_eq!(ok(&[("CORS_ORIGINS", "none")]).transport.origins, command_api::Origins::default());
}

#[test]
fn a_certificate_comes_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path(), "ours");
    let (other_cert, other_key) = certificate(folder.path(), "other");
    let config = ok(&[("TLS_CERT", &cert), ("TLS_KEY", &key)]);
    assert_eq!(config.transport.scheme(), "https");
    assert_eq!(shown(&config, "TLS_CERT"), cert);
    assert_eq!(ok(&[]).transport.scheme(), "http");

    assert_eq!(sentence(&[("TLS_CERT", &cert)]), "none without TLS_KEY");
    assert_eq!(sentence(&[("TLS_KEY", &key)]), "none without TLS_CERT");
    let chain = "a PEM file with a certificate, followed by those it stands on";
    for (cert, key, name, accepted) in [
        (&*cert, &*other_key, "TLS_KEY", "the key of the certificate in TLS_CERT"),
        (&*other_cert, &*key, "TLS_KEY", "the key of the certificate in TLS_CERT"),
        (&*key, &*key, "TLS_CERT", chain),
        (&*cert, &*cert, "TLS_KEY", "a PEM file with a key that has no password"),
        (
            "/nowhere",
            &*key,
            "TLS_CERT",
            "a PEM file that can be read (No such file or directory (os error 2))",
        ),
        (
            &*cert,
            "/nowhere",
            "TLS_KEY",
            "a PEM file that can be read (No such file or directory (os error 2))",
        ),
    ] {
        let vars = [("TLS_CERT", cert), ("TLS_KEY", key)];
        assert_eq!((refused(&vars), sentence(&vars)), (vec![name.to_owned()], accepted.to_owned()));
    }
}

#[test]
fn proxies_origins_and_rates_have_their_forms() {
    let config =
        ok(&[("TRUST_PROXY", "10.0.0.0/8, ::1"), ("CORS_ORIGINS", "https://a.cd"), ("RATE_LIMIT", "50")]);
    let Transport { tls: _, proxies, origins, rate_limit } = config.transport;
    assert_eq!(proxies.to_string(), "10.0.0.0/8,::1/128");
    assert_eq!(origins.to_string(), "https://a.cd");
    assert_eq!(rate_limit.map(u32::from), Some(50));
    assert_eq!(ok(&[("RATE_LIMIT", "off")]).transport.rate_limit, None);

    for bad in ["true", "10.0.0.0/33", "proxy.example.org"] {
        let accepted = "networks such as 10.0.0.0/8, or addresses, comma-separated";
        assert_eq!(sentence(&[("TRUST_PROXY", bad)]), accepted, "{bad}");
    }
    for bad in ["*", "app.example.org", "https://app.example.org/", "https://*.example.org"] {
        let accepted = "none, or origins such as https://app.example.org and http://localhost:* (any port), \
                        comma-separated";
        assert_eq!(sentence(&[("CORS_ORIGINS", bad)]), accepted, "{bad}");
    }
    for bad in ["0", "-1", "1.5", "on", "1000001"] {
        assert_eq!(sentence(&[("RATE_LIMIT", bad)]), "off, or a whole number, 1 to 1000000", "{bad}");
    }
}
