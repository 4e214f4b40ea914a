//! The program `annuaire`.

use std::process::ExitCode;

use annuaire::cli::Cli;
use annuaire::telemetry;
use clap::Parser;

// Commands are many small allocations on several threads, which the system's allocator locks over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Two providers could be linked in one day; choosing here keeps TLS from failing at run time.
    // It fails only where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            telemetry::tell(&fatal);
            ExitCode::from(fatal.exit_code())
        }
    }
}
