use super::*;

fn cluster(vars: &[(&str, &str)]) -> KafkaCluster {
    match ok(vars).kafka {
        Kafka::Cluster(cluster) => cluster,
        Kafka::Embedded => panic!("the embedded broker"),
    }
}

fn properties(cluster: &KafkaCluster) -> Vec<(&str, &str)> {
    cluster.options.expose().collect()
}

#[test]
fn brokers_are_hosts_with_or_without_a_port() {
    let brokers = |text| cluster(&[("KAFKA_BROKERS", text)]).brokers;
    assert_eq!(brokers("localhost"), "localhost:9092");
    assert_eq!(brokers("kafka_1:9093, b.example"), "kafka_1:9093,b.example:9092");
    assert_eq!(brokers("[::1],[::2]:1"), "[::1]:9092,[::2]:1");
    for bad in [",", "a,,b", "a:", "a:0", "a:70000", "::1", "[a]:1", "PLAINTEXT://a:1", "a b", "u@a"] {
        let accepted = "host:port, several with commas; without a port, 9092";
        assert_eq!(sentence(&[("KAFKA_BROKERS", bad)]), accepted, "{bad}");
    }
}

#[test]
fn security_becomes_properties_in_any_case() {
    let cluster = cluster(&[
        ("KAFKA_BROKERS", "h"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "scram-sha-512"),
        ("KAFKA_SASL_USERNAME", "u"),
        ("KAFKA_SASL_PASSWORD", "p"),
    ]);
    assert_eq!(
        properties(&cluster),
        [
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "p"),
            ("sasl.username", "u"),
            ("security.protocol", "sasl_ssl"),
        ]
    );
    assert!(format!("{cluster:?}").contains(r#""sasl.password": "***""#), "{cluster:?}");
}

#[test]
fn security_that_nothing_would_use_is_told() {
    let none = "none without KAFKA_BROKERS, which names the cluster it is for";
    for given in [
        ("KAFKA_SECURITY_PROTOCOL", "ssl"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "u"),
        ("KAFKA_SASL_PASSWORD", "p"),
        ("KAFKA_OPT_BATCH_SIZE", "5"),
    ] {
        assert_eq!(sentence(&[given]), none);
    }
    let brokers = ("KAFKA_BROKERS", "h");
    assert_eq!(
        sentence(&[brokers, ("KAFKA_SASL_USERNAME", "u")]),
        "none unless KAFKA_SECURITY_PROTOCOL is sasl_plaintext or sasl_ssl"
    );
    assert_eq!(
        sentence(&[brokers, ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"), ("KAFKA_SASL_USERNAME", "u")]),
        "plaintext or ssl, unless KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are set"
    );
    // What is wrong with the brokers is told, not what follows from it.
    assert_eq!(refused(&[("KAFKA_BROKERS", "a:"), ("KAFKA_SECURITY_PROTOCOL", "ssl")]), ["KAFKA_BROKERS"]);
}

#[test]
fn security_has_few_forms() {
    assert_eq!(
        sentence(&[("KAFKA_BROKERS", "h"), ("KAFKA_SECURITY_PROTOCOL", "tls")]),
        "plaintext, ssl, sasl_plaintext or sasl_ssl"
    );
    for (bad, accepted) in [
        ("GSSAPI", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ("OAUTHBEARER", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; OAUTHBEARER is not in this release"),
    ] {
        assert_eq!(sentence(&[("KAFKA_BROKERS", "h"), ("KAFKA_SASL_MECHANISM", bad)]), accepted);
    }
}

#[test]
fn options_of_kafka_pass_through_and_a_secret_may_stand_in_a_file() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "hunter2").expect("to write");
    let path = file.path().to_str().expect("a readable path");
    let vars = [
        ("KAFKA_BROKERS", "h"),
        ("KAFKA_OPT_SSL_CA_LOCATION", "/etc/ca.pem"),
        ("KAFKA_OPT_SSL_KEY_PASSWORD_FILE", path),
        ("KAFKA_OPT_BATCH_SIZE", ""),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "u"),
        ("KAFKA_SASL_PASSWORD_FILE", path),
    ];
    assert_eq!(
        properties(&cluster(&vars)),
        [
            ("sasl.mechanism", "PLAIN"),
            ("sasl.password", "hunter2"),
            ("sasl.username", "u"),
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", "/etc/ca.pem"),
            ("ssl.key.password", "hunter2"),
        ]
    );
    let config = ok(&vars);
    assert_eq!(shown(&config, "KAFKA_OPT_SSL_CA_LOCATION"), "/etc/ca.pem");
    assert_eq!(shown(&config, "KAFKA_OPT_SSL_KEY_PASSWORD"), "***");
    assert!(config.effective.iter().all(|it| it.setting != "KAFKA_OPT_SSL_KEY_PASSWORD_FILE"));

    let both = [vars[0], vars[2], ("KAFKA_OPT_SSL_KEY_PASSWORD", "x")];
    assert_eq!(sentence(&both), "unset, since KAFKA_OPT_SSL_KEY_PASSWORD is set too");
}

#[test]
fn an_option_of_the_environment_wins_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "KAFKA_OPT_BATCH_SIZE=5\nKAFKA_OPT_DEBUG=msg").expect("to write");
    let vars = [("KAFKA_BROKERS", "h"), ("KAFKA_OPT_BATCH_SIZE", "9")];
    let environment = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sources = Sources::from_vars(environment).dot_env(file.path()).expect("a good file");
    let Kafka::Cluster(cluster) = Config::from_sources(&sources).expect("a good configuration").kafka else {
        panic!("the embedded broker");
    };
    assert_eq!(properties(&cluster), [("batch.size", "9"), ("debug", "msg")]);
}

#[test]
fn options_that_are_decided_elsewhere_are_refused_with_the_reason() {
    let transactions = "none: messages are written in transactions, which all replicas acknowledge";
    let form = "KAFKA_OPT_<KEY>, the key in upper case with _ for .";
    for (name, accepted) in [
        ("BOOTSTRAP_SERVERS", "none: KAFKA_BROKERS says it"),
        ("METADATA_BROKER_LIST", "none: KAFKA_BROKERS says it"),
        ("SECURITY_PROTOCOL", "none: KAFKA_SECURITY_PROTOCOL says it"),
        ("SASL_MECHANISM", "none: KAFKA_SASL_MECHANISM says it"),
        ("SASL_MECHANISMS", "none: KAFKA_SASL_MECHANISM says it"),
        ("SASL_USERNAME", "none: KAFKA_SASL_USERNAME says it"),
        ("SASL_PASSWORD", "none: KAFKA_SASL_PASSWORD says it"),
        ("COMPRESSION_TYPE", "none: KAFKA_COMPRESSION says it"),
        ("COMPRESSION_CODEC", "none: KAFKA_COMPRESSION says it"),
        ("TRANSACTIONAL_ID", "none: it is made from the log, so that two processes can't both write"),
        ("ENABLE_IDEMPOTENCE", transactions),
        ("ACKS", transactions),
        ("REQUEST_REQUIRED_ACKS", transactions),
        ("PARTITIONER", "none: a key goes to the partition that Java clients and KafkaJS choose for it"),
        ("GROUP_ID", "none: KAFKA_GROUP_ID says it"),
        ("AUTO_OFFSET_RESET", "none: INBOUND_START says it"),
        ("ISOLATION_LEVEL", "none: only committed messages are read"),
        ("ENABLE_AUTO_COMMIT", "none: offsets are kept with what was done"),
        ("AUTO_COMMIT_ENABLE", "none: offsets are kept with what was done"),
        ("linger_ms", form),
        ("LINGER__MS", form),
        ("LINGER.MS", form),
        ("", form),
    ] {
        let name = format!("KAFKA_OPT_{name}");
        assert_eq!(sentence(&[("KAFKA_BROKERS", "h"), (&name, "x")]), accepted, "{name}");
    }
}

#[test]
fn messages_are_compressed_only_as_kafkajs_reads_them() {
    assert_eq!(ok(&[("KAFKA_COMPRESSION", "gzip")]).topics.compression.codec(), "gzip");
    for bad in ["snappy", "lz4", "zstd", "GZIP"] {
        assert_eq!(sentence(&[("KAFKA_COMPRESSION", bad)]), "none or gzip: KafkaJS reads no other");
    }
}

#[test]
fn an_option_that_librdkafka_does_not_know_is_told_without_its_value() {
    let known = "what librdkafka does: No such configuration property: \"sasl.passwrod\"";
    let refused = Config::from_vars(
        [("KAFKA_BROKERS", "h"), ("KAFKA_OPT_SASL_PASSWROD", "hunter2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
    .expect_err("a wrong configuration");
    let [problem] = &refused.problems[..] else { panic!("{refused}") };
    assert_eq!((problem.accepted.as_str(), problem.value.as_str()), (known, "***"));
}
