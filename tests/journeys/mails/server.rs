//! A mail server in Node, and what it was given.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::server::{eventually, text};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/smtp-server.js");
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/node/node_modules");

/// What links begin with here.
pub(crate) const LINK_BASE: &str = "https://annuaire.example.org/ici";

/// A server; killed when it is dropped.
pub(crate) struct MailServer {
    pub(crate) port: u16,
    stdin: ChildStdin,
    said: Arc<Mutex<Vec<Value>>>,
    _child: Child,
}

impl MailServer {
    /// On any free port, for everybody.
    pub(crate) async fn start() -> Self {
        Self::start_with(json!({ "port": 0 })).await
    }

    /// With these options of the script's, and a certificate that nobody signed if they name none.
    pub(crate) async fn start_with(mut options: Value) -> Self {
        if options.get("cert").is_none() {
            let (cert, key) = certificate();
            (options["cert"], options["key"]) = (cert.into(), key.into());
        }
        let mut node = Command::new("node");
        node.arg(SCRIPT).arg(options.to_string()).env("NODE_PATH", MODULES);
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = node.spawn().expect("node is there: `.ci/install tests` installs it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        let port = first["port"].as_u64().and_then(|port| port.try_into().ok());
        let said = Arc::<Mutex<Vec<Value>>>::default();
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let port = port.unwrap_or_else(|| panic!("the mail server does not start: {first}"));
        Self { port, stdin: child.stdin.take().unwrap(), said, _child: child }
    }

    /// From now on it answers so.
    pub(crate) async fn answer(&mut self, how: &Value) {
        let before = self.count("how");
        self.stdin.write_all(format!("{how}\n").as_bytes()).await.unwrap();
        eventually("the mail server has heard", async || self.count("how") > before).await;
    }

    /// How often it has said something of this kind.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|it| it.get(kind).is_some()).count()
    }

    /// Everything of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.said.lock().unwrap().iter().filter_map(|it| it.get(kind).cloned()).collect()
    }

    /// The mails that it was given.
    pub(crate) fn mails(&self) -> Vec<Value> {
        self.all("mail")
    }

    /// The same by their id, each with its copies.
    pub(crate) fn by_id(&self) -> BTreeMap<String, Vec<Value>> {
        let mut by_id = BTreeMap::<String, Vec<Value>>::new();
        for mail in self.mails() {
            by_id.entry(text(&mail, "messageId")).or_default().push(mail);
        }
        by_id
    }

    /// Waits for so many of them.
    pub(crate) async fn has(&self, mails: usize) -> Vec<Value> {
        eventually(&format!("the mail server has {mails} mails"), async || self.mails().len() >= mails).await;
        self.mails()
    }
}

/// A certificate of this machine, and its key.
pub(crate) fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Where a mail leads.
pub(crate) fn link(mail: &Value) -> String {
    let text = text(mail, "text");
    let links: Vec<&str> = text.split_whitespace().filter(|word| word.starts_with(LINK_BASE)).collect();
    let [link] = links[..] else { panic!("not one link in {text}") };
    link.strip_prefix(LINK_BASE).unwrap().to_owned()
}

/// What the link of a mail holds, as its text and as bytes.
pub(crate) fn token(mail: &Value) -> (String, Vec<u8>) {
    let link = link(mail);
    let (_, token) = link.split_once("?token=").unwrap();
    (token.to_owned(), URL_SAFE_NO_PAD.decode(token).unwrap())
}
