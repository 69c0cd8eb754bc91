//! The upstream simulator as a program.

use bourse_sim::upstream::cli;
use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    cli::run(cli::Args::parse(), &mut std::io::stdout()).await
}
