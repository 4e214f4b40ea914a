//! The private Kafka itself, which other journeys stop and start.

use std::time::Duration;

use journeys::Kafka;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::eventually;

/// Asks for the versions it speaks (a request without a body) and takes the first byte of the answer.
async fn asks(bootstrap: &str) -> std::io::Result<u8> {
    let mut connection = TcpStream::connect(bootstrap).await?;
    connection.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).await?;
    connection.read_u8().await
}

#[tokio::test]
async fn kafka_comes_back_on_its_port_after_a_kill_a_stop_and_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = Kafka::start(dir.path(), 0).await.unwrap();
    let bootstrap = kafka.bootstrap();
    asks(&bootstrap).await.unwrap();

    kafka.kill().await;
    asks(&bootstrap).await.unwrap_err();
    kafka.resume().await.unwrap();
    assert_eq!(kafka.bootstrap(), bootstrap);
    asks(&bootstrap).await.unwrap();

    kafka.halt().await;
    asks(&bootstrap).await.unwrap_err();
    kafka.resume().await.unwrap();

    kafka.pause();
    // A signal takes effect a moment after it was sent.
    let hangs = async || timeout(Duration::from_millis(300), asks(&bootstrap)).await.is_err();
    eventually("it hangs", hangs).await;
    kafka.unpause();
    asks(&bootstrap).await.unwrap();
    kafka.stop().await;
}
