//! A `PostgreSQL` that a killed program left behind. Only the holder of the folder's lock may call
//! this: for anyone else the server may be in good hands.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process, test_kill_process};

use super::postgres::POSTGRES;
use super::process::pid;
use super::{Doing, LocalError};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Stops what still runs on this data folder and waits for its end.
pub(super) async fn stop(data: &Path, cluster: &str) -> Result<(), LocalError> {
    let file = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return Ok(());
    };
    let postmaster = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    let begin = Instant::now();
    let mut told = false;
    loop {
        let running = running(cluster);
        if running.is_empty() {
            return forget_stranger(&file, postmaster);
        }
        if begin.elapsed() > PATIENCE {
            return Err(LocalError::LeftOver { kind: POSTGRES, dir: data.to_path_buf() });
        }
        if !told {
            tracing::warn!("Waiting for a PostgreSQL left over in {} to stop", data.display());
            if let Some(id) = postmaster.filter(|id| running.contains(id)).and_then(|id| pid(id).ok()) {
                let _ = kill_process(id, Signal::INT);
            }
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// After a restart of the machine or the container the number may be that of someone else, and
// PostgreSQL would believe that it runs already. A number of nobody it judges by itself.
fn forget_stranger(file: &Path, postmaster: Option<u32>) -> Result<(), LocalError> {
    let taken = postmaster.and_then(|id| pid(id).ok()).is_some_and(|id| test_kill_process(id).is_ok());
    if !taken || !file.exists() {
        return Ok(());
    }
    std::fs::remove_file(file).doing(|| format!("can't remove {}", file.display()))
}

// The processes of a server, also those that outlive their parent for a moment. Command lines are
// readable for all, unlike working folders, which root in a container may not look up.
fn running(cluster: &str) -> Vec<u32> {
    let parent = format!("cluster_name={cluster}");
    let child = format!("postgres: {cluster}: ");
    command_lines()
        .into_iter()
        .filter(|(_, line)| line.contains(&parent) || line.starts_with(&child))
        .map(|(id, _)| id)
        .collect()
}

fn command_lines() -> Vec<(u32, String)> {
    if let Ok(processes) = std::fs::read_dir("/proc") {
        let line = |id: u32| std::fs::read(format!("/proc/{id}/cmdline")).ok();
        return processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|id| Some((id, String::from_utf8_lossy(&line(id)?).replace('\0', " "))))
            .collect();
    }
    let Ok(output) = Command::new("ps").args(["-axww", "-o", "pid=,command="]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter_map(|(id, line)| Some((id.parse().ok()?, line.trim_start().to_owned())))
        .collect()
}
