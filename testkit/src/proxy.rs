//! A TCP proxy that injects faults while it runs, without root.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::ports;

/// Bytes per copy; small enough for a smooth rate.
const CHUNK: usize = 8 * 1024;

/// What is wrong with the network. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Delay of every chunk, in each direction.
    pub latency: Duration,
    /// Bytes per second, in each direction.
    pub rate: Option<u64>,
    /// Connections stay open, and no bytes are forwarded in either direction.
    pub stall: bool,
    /// The port is closed.
    pub refuse: bool,
    /// Every connection is reset after this many bytes towards the server.
    pub cut_after: Option<u64>,
    /// Every connection gets a page of HTML and is closed, as by a captive portal.
    pub portal: bool,
}

/// The answer of a captive portal to every request.
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 40\r\nconnection: close\r\n\r\n\
    <html><body>please sign in</body></html>";

#[derive(Debug, Clone, Default)]
struct Orders {
    target: u16,
    faults: Faults,
    /// Connections of an earlier generation are reset.
    generation: u64,
    end: bool,
}

/// A proxy on a free port; stopped on drop.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    orders: watch::Sender<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of a port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port or thread can be had.
    pub fn start(target: u16) -> Result<Self> {
        let port = ports::free_port()?;
        let (orders, incoming) = watch::channel(Orders { target, ..Orders::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || {
            runtime.block_on(async {
                let first = listen(port).await;
                let _ = ready.send(first.is_some());
                run(port, first, incoming).await;
            });
        })?;
        if !started.recv()? {
            return Err(anyhow!("the proxy's port {port} was taken"));
        }
        Ok(Self { port, orders, thread: Some(thread) })
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the fault from now on, also for open connections.
    pub fn set(&self, faults: Faults) {
        self.orders.send_modify(|orders| orders.faults = faults);
    }

    /// Removes the fault.
    pub fn heal(&self) {
        self.set(Faults::default());
    }

    /// Forwards to another port of 127.0.0.1 from now on, and resets all open connections.
    pub fn lead_to(&self, target: u16) {
        self.orders.send_modify(|orders| {
            orders.target = target;
            orders.generation += 1;
        });
    }

    /// Resets all open connections.
    pub fn reset_connections(&self) {
        self.orders.send_modify(|orders| orders.generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders.send_modify(|orders| orders.end = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.ok()
}

async fn run(port: u16, first: Option<TcpListener>, mut orders: watch::Receiver<Orders>) {
    let mut listener = first;
    loop {
        let now = orders.borrow_and_update().clone();
        if now.end {
            return;
        }
        if now.faults.refuse {
            listener = None;
        } else if listener.is_none() {
            listener = listen(port).await;
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            accepted = accepted => if let Some((client, _)) = accepted {
                tokio::spawn(connection(client, orders.clone()));
            },
        }
    }
}

async fn connection(client: TcpStream, orders: watch::Receiver<Orders>) {
    let Orders { target, faults, .. } = orders.borrow().clone();
    if faults.portal {
        return portal(client).await;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Dropping a socket with zero linger resets it. An orderly end was already forwarded by `shutdown`.
    let _ = (client.set_zero_linger(), server.set_zero_linger());
    let generation = orders.borrow().generation;
    let (mut client_read, mut client_write) = client.into_split();
    let (mut server_read, mut server_write) = server.into_split();
    let mut watcher = orders.clone();
    let reset = async {
        let over = watcher.wait_for(|o| o.generation != generation || o.end || o.faults.refuse).await;
        drop(over);
    };
    let up = pump(&mut client_read, &mut server_write, orders.clone(), true);
    let down = pump(&mut server_read, &mut client_write, orders.clone(), false);
    tokio::select! {
        () = reset => {}
        ended = async { tokio::try_join!(up, down) } => {
            if ended.is_ok() {
                // Both sides have closed: send the last bytes before the sockets are dropped.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Reads the beginning of a request of any protocol and answers with the page.
async fn portal(mut client: TcpStream) {
    let mut received = [0; CHUNK];
    if client.read(&mut received).await.is_ok_and(|length| length > 0) {
        let _ = client.write_all(PAGE).await;
        let _ = client.shutdown().await;
        // Until the other side has read it; further bytes are discarded.
        while client.read(&mut received).await.is_ok_and(|length| length > 0) {}
    }
}

/// The connection must be reset.
struct Broken;

/// Moves bytes until the end of the stream.
async fn pump(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut orders: watch::Receiver<Orders>,
    towards_server: bool,
) -> Result<(), Broken> {
    let mut chunk = [0; CHUNK];
    let mut moved = 0;
    loop {
        orders.wait_for(|o| !o.faults.stall).await.map_err(|_| Broken)?;
        let length = from.read(&mut chunk).await.map_err(|_| Broken)?;
        orders.wait_for(|o| !o.faults.stall).await.map_err(|_| Broken)?;
        if length == 0 {
            return to.shutdown().await.map_err(|_| Broken);
        }
        let faults = orders.borrow().faults.clone();
        tokio::time::sleep(faults.latency + pause(length, faults.rate)).await;
        moved += length as u64;
        if towards_server && faults.cut_after.is_some_and(|limit| moved > limit) {
            return Err(Broken);
        }
        to.write_all(&chunk[..length]).await.map_err(|_| Broken)?;
    }
}

fn pause(length: usize, rate: Option<u64>) -> Duration {
    rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(length as f64 / rate.max(1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        port
    }

    async fn round(socket: &mut TcpStream) -> std::io::Result<()> {
        socket.write_all(b"hello").await?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).await.map(drop)
    }

    #[tokio::test]
    async fn faults_begin_and_end_while_it_runs() {
        let proxy = Proxy::start(echo().await).unwrap();
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));
        let mut socket = connect().await.unwrap();
        round(&mut socket).await.unwrap();

        proxy.set(Faults { stall: true, ..Faults::default() });
        let stalled = tokio::time::timeout(Duration::from_millis(200), round(&mut socket)).await;
        assert!(stalled.is_err(), "a stalled connection stays open and silent");
        proxy.reset_connections();
        assert!(round(&mut socket).await.is_err());

        proxy.set(Faults { refuse: true, ..Faults::default() });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(connect().await.is_err());

        proxy.set(Faults { cut_after: Some(7), ..Faults::default() });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut socket = connect().await.unwrap();
        round(&mut socket).await.unwrap();
        assert!(round(&mut socket).await.is_err());

        proxy.set(Faults { portal: true, ..Faults::default() });
        let mut socket = connect().await.unwrap();
        let mut page = Vec::new();
        socket.write_all(b"hello").await.unwrap();
        socket.read_to_end(&mut page).await.unwrap();
        assert_eq!(page, PAGE);

        proxy.heal();
        round(&mut connect().await.unwrap()).await.unwrap();
        proxy.lead_to(1);
        assert!(round(&mut connect().await.unwrap()).await.is_err(), "the port is closed");
    }
}
