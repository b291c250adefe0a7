//! delay PORT SOCKET MICROSECONDS: listens on 127.0.0.1:PORT, passes bytes on to the Unix socket and bytes from there back,
//! each this much later. Each way of a connection has two threads, so that no bytes wait for later ones.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

fn carry(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static, delay: Duration, end: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        end();
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, socket, delay] = &arguments[..] else { panic!("delay PORT SOCKET MICROSECONDS") };
    let delay = Duration::from_micros(delay.parse().unwrap());
    for client in TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap().incoming() {
        let (client, server) = (client.unwrap(), UnixStream::connect(socket).unwrap());
        client.set_nodelay(true).unwrap();
        let ends = |client: &TcpStream, server: &UnixStream| {
            let (client, server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            move || {
                let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            }
        };
        let (there, back) = (ends(&client, &server), ends(&client, &server));
        carry(client.try_clone().unwrap(), server.try_clone().unwrap(), delay, there);
        carry(server, client, delay, back);
    }
}
