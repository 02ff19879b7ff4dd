//! The TCP ports of web instances: the lowest free one from a base up.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
};

use gilliam_serve::{BindError, Places, ServeConfig, Server, bind};

use crate::ingress;

/// Ports that a node gives out at most.
const PORTS_COUNT_MAX: u16 = 20_000;
/// Connections at once on the port of one instance; a load balancer in front needs a few hundred.
const CONNECTIONS_MAX: usize = 1_000;

/// The ports of one node.
#[derive(Debug)]
pub(crate) struct Ports {
    ip: IpAddr,
    /// 0 lets the system choose each.
    base: u16,
    taken: Mutex<Taken>,
    /// For the connections of all.
    places: Places,
}

#[derive(Debug, Default)]
struct Taken {
    numbers: BTreeSet<u16>,
    /// Where the search begins: below it all was taken when it was last looked at, here or by others. Without
    /// it a start of thousands of instances would ask the kernel for each port before its own.
    from: u16,
}

/// A port that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    ports: Arc<Ports>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .give_back(self.number);
    }
}

impl Taken {
    fn give_back(&mut self, number: u16) {
        self.numbers.remove(&number);
        self.from = self.from.min(number);
    }
}

impl Ports {
    pub(crate) fn new(ip: IpAddr, base: u16, places: Places) -> Arc<Self> {
        Arc::new(Self {
            ip,
            base,
            taken: Mutex::default(),
            places,
        })
    }

    /// A port with a server on it, or none when all are taken.
    pub(crate) fn serve(self: &Arc<Self>) -> Option<(Port, Server)> {
        self.take(|number| {
            let config = ServeConfig {
                connections_max: CONNECTIONS_MAX,
                ..ingress::listening(SocketAddr::new(self.ip, number), self.places.clone())
            };
            match bind(&config) {
                Ok((server, address)) => Some((address.port(), server)),
                Err(BindError::InUse { .. }) => None,
                Err(error) => {
                    tracing::debug!(%error, "port skipped");
                    None
                }
            }
        })
    }

    /// A port that nobody listens on, for a command to listen on.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Port> {
        let free = |number| {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()?;
            Some((listener.local_addr().ok()?.port(), ()))
        };
        self.take(free).map(|(port, ())| port)
    }

    fn take<T>(self: &Arc<Self>, open: impl Fn(u16) -> Option<(u16, T)>) -> Option<(Port, T)> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.base.saturating_add(PORTS_COUNT_MAX - 1);
        let from = taken.from.clamp(self.base, last);
        let candidates = match self.base {
            0 => (0..=0).chain(1..1),
            // What was in use by others may be free again by now.
            base => (from..=last).chain(base..from),
        };
        for number in candidates {
            if taken.numbers.contains(&number) {
                continue;
            }
            if let Some((number, opened)) = open(number)
                && taken.numbers.insert(number)
            {
                taken.from = number.saturating_add(1);
                return Some((
                    Port {
                        number,
                        ports: self.clone(),
                    },
                    opened,
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ports_are_given_from_the_base_up_and_come_back() {
        let probe = TcpListener::bind("127.0.0.1:0").expect("probe");
        let base = probe.local_addr().expect("address").port();
        let ports = Ports::new(Ipv4Addr::LOCALHOST.into(), base, Places::new(10));
        let (first, _server) = ports.serve().expect("a port");
        assert!(first.number > base, "a port in use is skipped");
        let second = ports.reserve().expect("a port");
        assert!(second.number > first.number);
        let number = second.number;
        drop(second);
        assert_eq!(ports.reserve().expect("a port").number, number);
    }
}
