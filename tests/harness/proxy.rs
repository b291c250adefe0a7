//! A network between a server and its clients, with its faults: a port of this machine that passes bytes on, passes them on
//! late, or loses them, some or all.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The way that bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// What a client meets that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// Closed at once.
    Refuses,
    /// Half open: the connection stands, and nobody ever says anything.
    Silent,
}

#[derive(Default)]
struct Weather {
    door: AtomicU32,
    /// Microseconds on each way.
    delay: AtomicU64,
    /// Bytes on this way are held back: they come when the faults end, or are lost with their connection.
    held: [AtomicBool; 2],
    /// The next bytes on this way are the last of their connection, and half of them are missing.
    cut: [AtomicBool; 2],
    /// Connections that were made before this number changed are to end.
    generation: AtomicU32,
    closed: AtomicBool,
}

pub struct Proxy {
    port: u16,
    weather: Arc<Weather>,
}

impl Proxy {
    /// A proxy in front of the server that listens at this socket.
    pub fn to(socket: &Path) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = Proxy { port: listener.local_addr().unwrap().port(), weather: Arc::default() };
        let (socket, weather) = (socket.to_owned(), proxy.weather.clone());
        thread::spawn(move || listen(&listener, &socket, &weather));
        proxy
    }

    /// The address of the server through the proxy, as a libpq connection string.
    pub fn conninfo(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }

    pub fn door(&self, door: Door) {
        self.weather.door.store(door as u32, SeqCst);
    }

    pub fn delay(&self, each_way: Duration) {
        self.weather.delay.store(each_way.as_micros() as u64, SeqCst);
    }

    /// Holds back all bytes on this way.
    pub fn hold(&self, way: Way) {
        self.weather.held[way as usize].store(true, SeqCst);
    }

    /// Cuts a connection in the middle of its next message on this way.
    pub fn cut_in_message(&self, way: Way) {
        self.weather.cut[way as usize].store(true, SeqCst);
    }

    /// Ends all connections; bytes that are held back in them are lost.
    pub fn cut(&self) {
        self.weather.generation.fetch_add(1, SeqCst);
    }

    /// Ends all faults. Bytes that were held back come now.
    pub fn clear_up(&self) {
        self.door(Door::Open);
        self.delay(Duration::ZERO);
        for way in [Way::ToServer, Way::ToClient] {
            self.weather.held[way as usize].store(false, SeqCst);
            self.weather.cut[way as usize].store(false, SeqCst);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.closed.store(true, SeqCst);
        self.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn listen(listener: &TcpListener, socket: &PathBuf, weather: &Arc<Weather>) {
    let mut silent = Vec::new();
    for client in listener.incoming() {
        if weather.closed.load(SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        match weather.door.load(SeqCst) {
            door if door == Door::Refuses as u32 => {}
            door if door == Door::Silent as u32 => silent.push(client),
            _ => {
                if let Ok(server) = UnixStream::connect(socket) {
                    connect(client, server, weather);
                }
            }
        }
    }
}

fn connect(client: TcpStream, server: UnixStream, weather: &Arc<Weather>) {
    client.set_nodelay(true).unwrap();
    let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let end = Arc::new(move || {
        let _ = ends.0.shutdown(Shutdown::Both);
        let _ = ends.1.shutdown(Shutdown::Both);
    });
    let (from_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    pass(from_client, server, Way::ToServer, weather, end.clone());
    pass(from_server, client, Way::ToClient, weather, end);
}

/// Passes bytes on, each batch when it is due: more may come meanwhile.
fn pass(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    way: Way,
    weather: &Arc<Weather>,
    end: Arc<impl Fn() + Send + Sync + 'static>,
) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let clouds = weather.clone();
    thread::spawn(move || {
        let mut bytes = [0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let due = Instant::now() + Duration::from_micros(clouds.delay.load(SeqCst));
            if sender.send((due, bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    let weather = weather.clone();
    let generation = weather.generation.load(SeqCst);
    thread::spawn(move || {
        let way = way as usize;
        let tick = Duration::from_millis(1);
        let lives = || weather.generation.load(SeqCst) == generation;
        while lives() {
            let (due, bytes) = match receiver.recv_timeout(10 * tick) {
                Ok(batch) => batch,
                Err(mpsc::RecvTimeoutError::Timeout) => continue,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while weather.held[way].load(SeqCst) && lives() {
                thread::sleep(tick);
            }
            if !lives() {
                break;
            }
            if weather.cut[way].swap(false, SeqCst) {
                let _ = to.write_all(&bytes[..bytes.len() / 2]);
                break;
            }
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // The end of a connection is delayed and held back as its bytes are.
        while weather.held[way].load(SeqCst) && lives() {
            thread::sleep(tick);
        }
        end();
    });
}
