//! A private one-node Kafka for tests and for trying the program with one.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use annuaire::local::{Daemon, Kind, LocalError, Signal, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KAFKA: Kind = Kind {
    name: "Kafka",
    program: "java",
    file: "kafka",
    variable: "KAFKA_BROKERS",
    install: "Run `.ci/install tests`",
};
// `.ci/kafka` puts it there.
const JARS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/kafka-3.9.1");
/// On a machine that is busy with compiling, too.
const START: Duration = Duration::from_mins(2);
const STOP: Duration = Duration::from_secs(20);
const TRIES: usize = 3;

const LOG: &str = "\
log4j.rootLogger=WARN, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=%d{ISO8601} %p %c: %m%n
";

/// A private Kafka, broker and controller in one process. Stop it with [`Kafka::stop`]; dropping
/// it kills it.
#[derive(Debug)]
pub struct Kafka {
    daemon: Daemon,
    port: u16,
    /// Where it tells clients to come, if that is not where it listens.
    advertised: Option<u16>,
}

impl Kafka {
    /// Starts the node of this folder on this port of 127.0.0.1, making it at the first start; 0 is
    /// any free port.
    pub async fn start(dir: &Path, port: u16) -> Result<Self, LocalError> {
        Self::make_ready(dir, port, None).await
    }

    /// The same, but it tells clients to come to another port, where something passes on to
    /// [`Kafka::port`] what it gets.
    pub async fn start_behind(dir: &Path, port: u16, advertised: u16) -> Result<Self, LocalError> {
        Self::make_ready(dir, port, Some(advertised)).await
    }

    async fn make_ready(dir: &Path, port: u16, advertised: Option<u16>) -> Result<Self, LocalError> {
        if !Path::new(JARS).exists() {
            let source = io::Error::other("it is not in .tools; run `make test`, or `.ci/kafka`");
            return Err(LocalError::Io { doing: "can't start Kafka".to_owned(), source });
        }
        let mut kafka = Self { daemon: Daemon::claim(KAFKA, dir).await?, port, advertised };
        for _ in 0..TRIES {
            if port == 0 {
                kafka.port = any_port()?;
            }
            match kafka.resume().await {
                // Someone was faster, or has it for good; the log says so in fifty lines of Java.
                Err(LocalError::Program { .. }) if !is_free(kafka.port) => {
                    if port != 0 {
                        let doing = format!("Kafka can't listen on 127.0.0.1:{port}");
                        return Err(LocalError::Io { doing, source: io::ErrorKind::AddrInUse.into() });
                    }
                }
                other => return other.map(|()| kafka),
            }
        }
        kafka.resume().await.map(|()| kafka)
    }

    /// Where clients connect first; the same for as long as this value lives.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.advertised.unwrap_or(self.port))
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it ends by itself, which it never should.
    pub async fn ended(&self) -> Option<ExitStatus> {
        self.daemon.ended().await
    }

    /// Stops it and frees the folder.
    pub async fn stop(mut self) {
        self.halt().await;
    }

    /// Stops it, but keeps the folder; [`Kafka::resume`] starts it again.
    pub async fn halt(&mut self) {
        self.daemon.halt(Signal::TERM, STOP).await;
    }

    /// Kills it as a crash of the machine would, but for what the disk had not got yet.
    pub async fn kill(&mut self) {
        self.daemon.kill().await;
    }

    /// Has it hang, with its connections open, until [`Kafka::unpause`].
    pub fn pause(&self) {
        self.daemon.signal(Signal::STOP);
    }

    /// Lets it go on after [`Kafka::pause`].
    pub fn unpause(&self) {
        self.daemon.signal(Signal::CONT);
    }

    /// Starts it after [`Kafka::halt`] or [`Kafka::kill`].
    pub async fn resume(&mut self) -> Result<(), LocalError> {
        if self.daemon.runs() {
            return Ok(());
        }
        let data = self.file("kafka");
        if !data.exists() {
            self.make(&data).await?;
        }
        let cluster = cluster(&data)?;
        self.write("kafka.properties", &self.properties("kafka")?)?;
        let mut server = self.java();
        server.args(["kafka.Kafka", "kafka.properties"]);
        self.daemon.start(server).await?;
        self.daemon.answers(START, async || answers(self.port, &cluster).await.unwrap_or(false)).await
    }

    /// Adds or removes a rule of who may do what.
    ///
    /// # Panics
    /// When Kafka's tool refuses.
    pub async fn set_acl(&self, arguments: &[&str]) {
        let mut tool = self.java();
        tool.args(["kafka.admin.AclCommand", "--bootstrap-server", &self.bootstrap()]).args(arguments);
        let output =
            tokio::process::Command::from(tool).kill_on_drop(true).output().await.expect("java runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    async fn make(&self, data: &Path) -> Result<(), LocalError> {
        // A half made one must never be taken for one.
        let new = data.with_extension("new");
        if new.exists() {
            std::fs::remove_dir_all(&new).map_err(|source| cannot("remove", &new, source))?;
        }
        self.write("kafka.log4j.properties", LOG)?;
        self.write("kafka.new.properties", &self.properties("kafka.new")?)?;
        let mut format = self.java();
        // The form is that of a UUID in base64.
        let (high, low) = (RandomState::new().hash_one(0), RandomState::new().hash_one(1) & 0xf_ffff);
        let cluster = format!("{high:016x}{low:05x}A");
        format.args(["kafka.tools.StorageTool", "format", "-c", "kafka.new.properties", "-t", &cluster]);
        let output = tokio::process::Command::from(format).kill_on_drop(true).output().await;
        let output = output.map_err(|source| cannot("start java for", &new, source))?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            return Err(LocalError::ended("kafka.tools.StorageTool", Some(output.status), &text));
        }
        std::fs::rename(&new, data).map_err(|source| cannot("rename", &new, source))
    }

    /// Java, inside the folder: names of files are then free of what Kafka takes for a separator.
    fn java(&self) -> Command {
        let mut java = Daemon::command(Path::new("java"));
        java.current_dir(self.daemon.dir());
        // The names that Kafka's own scripts read. Ours are for a broker that is soon there and soon gone.
        for (variable, ours) in [
            ("KAFKA_HEAP_OPTS", "-Xmx300m"),
            ("KAFKA_JVM_PERFORMANCE_OPTS", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"),
        ] {
            let options = std::env::var(variable).unwrap_or_else(|_| ours.to_owned());
            java.args(options.split_whitespace());
        }
        java.args(["-Dlog4j.configuration=file:kafka.log4j.properties", "-cp", &format!("{JARS}/*")]);
        java
    }

    // Small, so that it starts soon; killed, it may come back only when its old session has ended.
    fn properties(&self, data: &str) -> Result<String, LocalError> {
        let (port, controller) = (self.port, any_port()?);
        let advertised = self.advertised.unwrap_or(port);
        Ok(format!(
            "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
log.dirs={data}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
"
        ))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.daemon.dir().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LocalError> {
        let file = self.file(name);
        std::fs::write(&file, text).map_err(|source| cannot("write", &file, source))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.daemon.signal(Signal::KILL);
    }
}

/// The id that a cluster got when it was made.
fn cluster(data: &Path) -> Result<String, LocalError> {
    let file = data.join("meta.properties");
    let text = std::fs::read_to_string(&file).map_err(|source| cannot("read", &file, source))?;
    let id = text.lines().find_map(|line| line.strip_prefix("cluster.id="));
    id.map(str::to_owned)
        .ok_or_else(|| cannot("find a cluster id in", &file, io::ErrorKind::InvalidData.into()))
}

fn any_port() -> Result<u16, LocalError> {
    free_port().map_err(|source| LocalError::Io { doing: "can't find a free port".to_owned(), source })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn cannot(what: &str, path: &Path, source: io::Error) -> LocalError {
    LocalError::Io { doing: format!("can't {what} {}", path.display()), source }
}

/// Whether this very cluster answers and its broker takes part in it: asks for metadata of no topic
/// in version 2, the first that names the cluster (<https://kafka.apache.org/protocol>).
async fn answers(port: u16, cluster: &str) -> io::Result<bool> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let (key, version, correlation, no_client, no_topics) = (3_i16, 2_i16, 1_i32, -1_i16, 0_i32);
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(correlation.to_be_bytes());
    request.extend(no_client.to_be_bytes());
    request.extend(no_topics.to_be_bytes());
    connection.write_u32(14).await?;
    connection.write_all(&request).await?;
    let size = connection.read_u32().await?.min(10_000);
    let mut answer = vec![0; usize::try_from(size).unwrap_or_default()];
    connection.read_exact(&mut answer).await?;
    // After the correlation id, how many brokers there are.
    let brokers = answer.get(4..8).is_some_and(|count| count != [0; 4]);
    Ok(brokers && answer.windows(cluster.len()).any(|it| it == cluster.as_bytes()))
}
