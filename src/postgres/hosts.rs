//! The hosts of a connection string, address after address. Each address is one attempt with a timeout of its own, because
//! libpq's connect_timeout does not hold for connections made without waiting; whatever fails, the next address is tried.
//!
//! A name service may take as long as it likes: a thread that touches nothing of PostgreSQL resolves the names, while the
//! process goes on with other work.

use super::libpq::{self, Connection};
use crate::mechanism::{Micros, SECOND};
use std::{
    ffi::{CStr, CString},
    net::{IpAddr, ToSocketAddrs},
    sync::{
        atomic::{AtomicU32, Ordering::*},
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
};

/// How long a name may take to be resolved before the next host is tried.
const PATIENCE: Micros = 2 * SECOND;

/// How many threads of this process resolve names.
static RESOLVING: AtomicU32 = AtomicU32::new(0);

/// One host as its keywords and values, which may have several addresses.
struct Host {
    options: Vec<(CString, CString)>,
    /// What the thread that resolves its name will say; until then no other thread is started for it.
    resolving: Option<Receiver<Result<Vec<IpAddr>, String>>>,
}

/// The hosts of one connection string, and which address is to be tried now.
pub struct Hosts {
    text: CString,
    /// Whether the service that it names is still to be read.
    lacks_service: bool,
    hosts: Vec<Host>,
    host: usize,
    /// The addresses of this host, once they are known. An address that is None: the host has none, or needs none.
    addresses: Option<Vec<Option<IpAddr>>>,
    address: usize,
    /// When the name began to be resolved.
    since: Option<Micros>,
}

impl Hosts {
    /// Reads a connection string; an error says what is wrong with it, without a password.
    pub fn parse(text: &CStr) -> Result<Self, String> {
        let has_threads = RESOLVING.load(Acquire) != 0;
        let options = libpq::options(text, has_threads)?;
        let lacks_service = has_threads && options.iter().any(|(name, _)| name.as_c_str() == c"service");
        let list = |keyword: &CStr| -> Vec<CString> {
            let value = options.iter().find(|(name, _)| name.as_c_str() == keyword).map(|(_, value)| value);
            value.map_or(Vec::new(), |value| {
                value.to_bytes().split(|byte| *byte == b',').filter_map(|part| CString::new(part).ok()).collect()
            })
        };
        let lists = [c"host", c"hostaddr", c"port"].map(|keyword| (keyword, list(keyword)));
        let count = lists[0].1.len().max(lists[1].1.len()).max(1);
        let one = |host: usize| {
            let mut own: Vec<_> = options
                .iter()
                .filter(|(name, _)| lists.iter().all(|(list, _)| name.as_c_str() != *list))
                .cloned()
                .collect();
            for (keyword, values) in &lists {
                // One port stands for all hosts.
                if let Some(value) = values.get(host).or_else(|| values.first().filter(|_| values.len() == 1)) {
                    own.push(((*keyword).to_owned(), value.clone()));
                }
            }
            own.push((c"fallback_application_name".to_owned(), c"idgen".to_owned()));
            Host { options: own, resolving: None }
        };
        let hosts = (0..count).map(one).collect();
        Ok(Hosts { text: text.to_owned(), lacks_service, hosts, host: 0, addresses: None, address: 0, since: None })
    }

    /// How many hosts there are, at least 1.
    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// How a log may call the host that is tried now.
    pub fn name(&self) -> String {
        let host = &self.hosts[self.host];
        let name = host.value(c"host").or_else(|| host.value(c"hostaddr")).unwrap_or_else(|| "local".into());
        host.value(c"port").map_or(name.clone(), |port| format!("{name}:{port}"))
    }

    /// Whether the first address of the first host comes next, as after each round.
    pub fn is_first(&self) -> bool {
        (self.host, self.address) == (0, 0)
    }

    /// Whether a name is being resolved.
    pub fn is_resolving(&self) -> bool {
        self.since.is_some()
    }

    /// Goes on to the next address.
    pub fn next(&mut self) {
        self.since = None;
        self.address += 1;
        if self.addresses.as_ref().is_none_or(|addresses| self.address >= addresses.len()) {
            (self.host, self.address, self.addresses) = ((self.host + 1) % self.hosts.len(), 0, None);
        }
    }

    /// Begins to connect; None while the name is being resolved. `now` is the boot-time clock. With each round the connection
    /// string is read anew: its service may have changed.
    pub fn connect(&mut self, now: Micros) -> Result<Option<Connection>, String> {
        let is_resolved = self.hosts.iter().all(|host| host.resolving.is_none()) && RESOLVING.load(Acquire) == 0;
        if self.is_first() && self.addresses.is_none() && is_resolved {
            *self = Self::parse(&self.text)?;
        }
        if self.lacks_service {
            return Err("the service file is read once no name is being resolved".into());
        }
        let name = self.name();
        let host = &mut self.hosts[self.host];
        let addresses = match &mut self.addresses {
            Some(addresses) => addresses,
            unknown => {
                let Some(addresses) = host.resolve()? else {
                    if now > *self.since.get_or_insert(now) + PATIENCE {
                        return Err(format!("the address of {name} is not found in time"));
                    }
                    return Ok(None);
                };
                self.since = None;
                unknown.insert(addresses)
            }
        };
        let mut options = host.options.clone();
        if let Some(Some(address)) = addresses.get(self.address) {
            options.push((c"hostaddr".to_owned(), CString::new(address.to_string()).unwrap_or_default()));
        }
        Connection::start(&options).map(Some)
    }
}

impl Host {
    fn value(&self, keyword: &CStr) -> Option<String> {
        let found = self.options.iter().find(|(name, value)| name.as_c_str() == keyword && !value.is_empty());
        found.map(|(_, value)| value.to_string_lossy().into_owned())
    }

    /// Its addresses, if they are known by now. A single None: it needs none, being a socket of this machine or an address.
    fn resolve(&mut self) -> Result<Option<Vec<Option<IpAddr>>>, String> {
        let name = self.value(c"host").filter(|name| !name.starts_with(['/', '@']) && name.parse::<IpAddr>().is_err());
        let Some(name) = name.filter(|_| self.value(c"hostaddr").is_none()) else { return Ok(Some(vec![None])) };
        let resolving = match &self.resolving {
            Some(resolving) => resolving,
            None => self.resolving.insert(resolve(name.clone()).map_err(|error| error.to_string())?),
        };
        let found = match resolving.try_recv() {
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => Err("its address cannot be found".into()),
            Ok(found) => found,
        };
        self.resolving = None;
        found.map(|addresses| Some(addresses.into_iter().map(Some).collect())).map_err(|why| format!("{name}: {why}"))
    }
}

/// Starts a thread that resolves a name. It runs no signal handlers: those are PostgreSQL's, for the process's first thread.
fn resolve(name: String) -> std::io::Result<Receiver<Result<Vec<IpAddr>, String>>> {
    let (sender, receiver) = channel();
    RESOLVING.fetch_add(1, Relaxed);
    let work = move || {
        let mut addresses = Vec::new();
        let found = (name.as_str(), 0).to_socket_addrs().map(|found| {
            for address in found.map(|found| found.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            addresses
        });
        RESOLVING.fetch_sub(1, Release);
        // The receiver may have gone.
        _ = sender.send(found.map_err(|error| error.to_string()));
    };
    // SAFETY: two sets of signals of this function; a thread begins with the mask of the one that makes it.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let made = thread::Builder::new().name("idgen resolver".into()).stack_size(1 << 18).spawn(work);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        made.inspect_err(|_| _ = RESOLVING.fetch_sub(1, Relaxed))?;
    }
    Ok(receiver)
}
