//! A proxy before a database that stops forwarding while its connections stay open, as a network that is cut in the middle
//! or a server that hangs does.

use crate::cluster::{Cluster, Network};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Whether bytes pass.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let is_shut = self.is_shut.lock().expect("nobody panics under it");
        drop(self.opened.wait_while(is_shut, |is_shut| *is_shut).expect("nobody panics under it"));
    }
}

pub(crate) struct Dam {
    gate: Arc<Gate>,
    port: u16,
}

impl Dam {
    /// A server with a port, and a dam before it.
    pub(crate) fn before_a_cluster() -> (Self, Cluster) {
        let rules = "host all all 127.0.0.1/32 trust";
        let cluster = Cluster::start_on(Network { rules, tls: None, port: 0 });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (gate, to) = (Arc::<Gate>::default(), cluster.port());
        let shared = Arc::clone(&gate);
        // It ends with the process of its test.
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let twin = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                for (from, to) in [(twin(&near), twin(&far)), (far, near)] {
                    let gate = Arc::clone(&shared);
                    std::thread::spawn(move || carry(from, to, &gate));
                }
            }
        });
        (Self { gate, port }, cluster)
    }

    pub(crate) fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=bourse dbname=postgres sslmode=disable", self.port)
    }

    /// Nothing passes from here on, and nobody is told.
    pub(crate) fn shut(&self) {
        *self.gate.is_shut.lock().expect("nobody panics under it") = true;
    }

    /// What was held up arrives.
    pub(crate) fn open(&self) {
        *self.gate.is_shut.lock().expect("nobody panics under it") = false;
        self.gate.opened.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut chunk = [0; 4_096];
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        gate.pass();
        if to.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
