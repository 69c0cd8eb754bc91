//! A proxy between gateway and exchange that cuts each connection after a random number of bytes, if that is wanted.

use crate::support::Random;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub(crate) struct Proxy {
    address: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
    cuts: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(to: SocketAddr, seed: u64, bytes_max: u64) -> Self {
        let to = Arc::new(Mutex::new(to));
        let far = Arc::clone(&to);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (cuts, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, ends) = (Arc::clone(&cuts), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut random = Random(seed);
            for near in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let near = near.expect("a gateway");
                let to = *far.lock().expect("an address");
                let Ok(far) = TcpStream::connect(to) else { continue };
                let left = Arc::new(AtomicU64::new(random.draw() % bytes_max));
                let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                let back = (clone(&far), clone(&near), Arc::clone(&left));
                let back = std::thread::spawn(move || carry(back.0, back.1, &back.2));
                carry(near, far, &left);
                back.join().expect("the way back");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, to, cuts, is_over, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections go there from now on.
    pub(crate) fn turn_to(&self, to: SocketAddr) {
        *self.to.lock().expect("an address") = to;
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It waits for somebody.
        drop(TcpStream::connect(self.address));
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

/// Carries bytes one way until one side closes or the connection's bytes are used up, wherever a frame is then.
fn carry(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64) {
    let mut chunk = [0; 700];
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        let before = left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(len as u64)));
        let before = before.expect("it always updates");
        let passed = len.min(before as usize);
        if to.write_all(&chunk[..passed]).is_err() || passed < len {
            break;
        }
    }
    for stream in [from, to] {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
