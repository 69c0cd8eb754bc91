//! The data plane of a process: a gateway that serves buyers, follows sellers' lists and records decisions.
//!
//! It is the same whether its exchange is beside it ([`crate::market`]) or elsewhere ([`crate::remote`]); both start it
//! with a gateway that has its ports already, and end it before what it asks for money.

use crate::data_dir::DataDir;
use crate::market::StartError;
use crate::report::Plain;
use bourse_gateway::{Gateway, Recorder};
use bourse_types::Digest32;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A gateway that serves.
pub(crate) struct DataPlane {
    /// Where buyers on this machine connect.
    pub(crate) base_url: String,
    pub(crate) gateway: Gateway,
    /// Keeps the journal of decisions, unless none is wanted.
    recorder: Option<Recorder>,
    stop: watch::Sender<bool>,
    serving: Option<JoinHandle<std::io::Result<()>>>,
    /// Follows the sellers' lists.
    lists: JoinHandle<()>,
}

impl DataPlane {
    /// Serves on a listener.
    pub(crate) fn start(
        gateway: Gateway,
        listener: TcpListener,
        data_dir: &DataDir,
        decisions_bytes_max: u64,
    ) -> Result<Self, StartError> {
        let address = local(&listener)?;
        let recorder = recorder(&gateway, data_dir, decisions_bytes_max)?;
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn({
            let gateway = gateway.clone();
            async move { gateway.serve(listener, told(stopping)).await }
        });
        let stopping = stop.subscribe();
        let lists = tokio::spawn(gateway.clone().keep_lists(told(stopping)));
        let base_url = format!("http://{address}/v1");
        Ok(Self { base_url, gateway, recorder, stop, serving: Some(serving), lists })
    }

    /// Completes if it stops serving by itself, which it never should.
    pub(crate) async fn failed(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        let ended = serving.await;
        self.serving = None;
        tracing::error!(?ended, "the gateway stopped serving");
    }

    /// Takes no new requests, and waits until the open ones have ended. Cancelling it leaves them open.
    pub(crate) async fn drain(&mut self) {
        let _ = self.stop.send(true);
        if let Some(serving) = self.serving.take()
            && let Ok(Err(error)) = serving.await
        {
            tracing::warn!(%error, "the gateway did not drain cleanly");
        }
        let _ = (&mut self.lists).await;
    }

    /// Ends a gateway that was drained.
    pub(crate) async fn close(self) {
        // Joins a thread that writes to the disk.
        let _ = tokio::task::spawn_blocking(move || drop(self.recorder)).await;
    }
}

/// Completes when told to stop, or when nobody is left to tell.
pub(crate) async fn told(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Listens where it was asked to.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| unusable(address, source))
}

/// Why nobody can listen there.
pub(crate) fn unusable(address: SocketAddr, source: std::io::Error) -> StartError {
    match source.kind() {
        ErrorKind::AddrInUse => StartError::Taken(address),
        _ => StartError::Listen { address, source },
    }
}

/// Where a process on this machine connects to a listener.
pub(crate) fn local(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut address =
        listener.local_addr().map_err(|source| StartError::Listen { address: nowhere, source })?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    Ok(address)
}

fn recorder(gateway: &Gateway, data_dir: &DataDir, bytes_max: u64) -> Result<Option<Recorder>, StartError> {
    if bytes_max == 0 {
        return Ok(None);
    }
    let folder = data_dir.decisions();
    let started = Recorder::start(gateway, &folder, bytes_max);
    started.map(Some).map_err(|error| {
        let plain = Plain::new(format!("the journal of decisions cannot be kept in {}", folder.display()));
        plain.because(error).hint("gateway.decisions_bytes_max = 0 goes without it").into()
    })
}

/// A gateway that cannot be made of its configuration.
pub(crate) fn no_gateway(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    Plain::new("the configured sellers cannot be used")
        .because(error)
        .hint("`bourse config explain` shows what was read, and from where")
        .into()
}

/// The system is out of randomness.
pub(crate) fn no_randomness(error: std::io::Error) -> Plain {
    Plain::new("the system gives no random bytes").because(error)
}

/// 32 random bytes as hex digits: a token, or a secret for a file.
pub(crate) fn token() -> Result<String, StartError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| no_randomness(std::io::Error::other(error)))?;
    Ok(Digest32(bytes).to_string())
}
