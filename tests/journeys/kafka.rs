//! The private Kafka itself, which other journeys stop and start.

use std::time::Duration;

use journeys::Kafka;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    let in_vain = tokio::time::timeout(Duration::from_millis(300), asks(&bootstrap)).await;
    assert!(in_vain.is_err(), "{in_vain:?}");
    kafka.unpause();
    asks(&bootstrap).await.unwrap();
    kafka.stop().await;
}
