//! One request through the ingress.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Instant,
};

use futures::future::BoxFuture;
use gilliam_model::code::Code;
use gilliam_serve::Peer;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::{body::Incoming, service::Service};

use super::{
    Ingress,
    access::Record,
    backend::{Failure, usage_of},
    body::{AppBody, BrokenOff, ClientBody, Outgoing},
    door::Door,
    headers::{self, Ends, GILLIAM_CALLER, GILLIAM_LOAD, Origin},
    inside::InsideCall,
    peer::{self, Forwarded},
    place::Place,
    refuse::{Asker, Reason, refuse},
    request::{self, Host},
};

/// Where requests come in.
#[derive(Debug, Clone)]
enum Entrance {
    /// The node's ingress: the host names the app.
    Hosts,
    /// The port of one instance.
    Door(Arc<Door>),
    /// Where other nodes send what their clients asked for: instances here answer.
    Peers,
    /// An instance of this node calls another app.
    Inside(Arc<InsideCall>),
}

/// The ingress behind one listening socket.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    ingress: Ingress,
    entrance: Entrance,
    /// Of the first request: each connection has a clone of its own, and the same ends for all its requests.
    ends: OnceLock<(Peer, Ends)>,
}

impl Ingress {
    /// What answers on the node's HTTP address.
    pub(crate) fn hosts(&self) -> Site {
        Site {
            ingress: self.clone(),
            entrance: Entrance::Hosts,
            ends: OnceLock::new(),
        }
    }

    /// What answers to other nodes.
    pub(crate) fn for_peers(&self) -> Site {
        Site {
            ingress: self.clone(),
            entrance: Entrance::Peers,
            ends: OnceLock::new(),
        }
    }

    /// What answers on the port of one instance.
    pub(crate) fn door(&self, door: Arc<Door>) -> Site {
        Site {
            ingress: self.clone(),
            entrance: Entrance::Door(door),
            ends: OnceLock::new(),
        }
    }
}

impl Service<Request<Incoming>> for Site {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Outgoing>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let ends = Some(self.ends_of(&request));
        let request = request.map(ClientBody::new);
        let visit = Visit {
            ingress: self.ingress.clone(),
            entrance: self.entrance.clone(),
        };
        Box::pin(async move {
            if !visit.ingress.vigil.is_clear() {
                visit.ingress.vigil.pass().await;
            }
            Ok(visit.answer(request, ends).await)
        })
    }
}

impl Site {
    fn ends_of(&self, request: &Request<Incoming>) -> Ends {
        const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer {
            remote: UNKNOWN,
            local: UNKNOWN,
        });
        let make = || Ends::new(peer.remote.ip(), peer.local.port());
        let (known, ends) = self.ends.get_or_init(|| (peer, make()));
        if *known == peer { ends.clone() } else { make() }
    }
}

/// One request's way.
pub(super) struct Visit {
    ingress: Ingress,
    entrance: Entrance,
}

impl Visit {
    /// That of a call of an instance here.
    pub(super) fn inside(ingress: Ingress, call: InsideCall) -> Self {
        let entrance = Entrance::Inside(Arc::new(call));
        Self { ingress, entrance }
    }

    pub(super) async fn answer(
        &self,
        request: Request<(ClientBody, Option<BrokenOff>)>,
        ends: Option<Ends>,
    ) -> Response<Outgoing> {
        let arrived = Instant::now();
        let (mut parts, (body, broken_off)) = request.into_parts();
        let asker = Asker::of(&parts.headers, parts.version);
        let forwarded = match self.entrance {
            Entrance::Peers => peer::admit(&mut parts),
            Entrance::Hosts | Entrance::Door(_) | Entrance::Inside(_) => None,
        };
        let request_id = match (&forwarded, &self.entrance) {
            (Some(forwarded), _) => forwarded.request_id.clone(),
            (None, Entrance::Inside(call)) => call.request_id.clone(),
            (None, _) => self.ingress.ids.next(),
        };
        let mut record = Record::new(
            arrived,
            parts.method.clone(),
            parts.uri.path_and_query().cloned(),
            request_id,
        );
        match &self.entrance {
            Entrance::Door(door) => record.for_group(door.group.clone()),
            Entrance::Inside(call) => record.for_group(call.group.clone()),
            Entrance::Hosts | Entrance::Peers => {}
        }
        let host = match request::check(&parts) {
            Ok(host) => host,
            Err(refusal) => {
                let (status, detail) = (refusal.status, Some(refusal.reason));
                return refuse(
                    Reason {
                        status,
                        detail,
                        ..Reason::of(Code::H26)
                    },
                    asker,
                    record,
                );
            }
        };
        let Host { name, given } = host;
        record.for_host(name);
        let place = match self.place(&mut record, forwarded.as_ref()).await {
            Ok(place) => place,
            Err(code) => return refuse(self.without_place(code), asker, record),
        };
        match (&self.entrance, &ends) {
            (Entrance::Inside(call), _) => call.head(&mut parts.headers),
            // What comes from another node has the headers of an app already.
            (_, Some(ends)) if forwarded.is_none() => forward_head(&mut parts, ends, &given, &record),
            (_, _) => {}
        }
        if matches!(self.entrance, Entrance::Inside(_) | Entrance::Peers) {
            record.of_caller(parts.headers.get(GILLIAM_CALLER).cloned());
        }
        strip_target(&mut parts);
        let request = Request::from_parts(parts, body);
        match self.forward(request, place, &mut record).await {
            Ok(response) => {
                let load = forwarded.and_then(|_| record.group()?.least_load());
                respond(response, asker, record, load)
            }
            Err(failure) => {
                // An app that fails for want of the client's body is not at fault.
                let is_clients = broken_off.is_some_and(|broken_off| broken_off.is_so());
                let code = if is_clients { Code::H27 } else { failure.code };
                let cause = failure.cause;
                record.used(failure.usage);
                refuse(
                    Reason {
                        cause,
                        ..Reason::of(code)
                    },
                    asker,
                    record,
                )
            }
        }
    }

    /// Why a request gets no place. A node in front is told that no instance got it, by a status that no
    /// app's answer has together with a code.
    fn without_place(&self, code: Code) -> Reason {
        let reason = Reason::of(code);
        match self.entrance {
            Entrance::Peers => Reason {
                status: StatusCode::MISDIRECTED_REQUEST,
                ..reason
            },
            Entrance::Hosts | Entrance::Door(_) | Entrance::Inside(_) => reason,
        }
    }

    async fn place(&self, record: &mut Record, forwarded: Option<&Forwarded>) -> Result<Place, Code> {
        match &self.entrance {
            Entrance::Door(door) => door.acquire().map(Place::Here),
            Entrance::Peers => {
                let Forwarded { app, process, .. } = forwarded.ok_or(Code::H31)?;
                let group = self.ingress.table.existing_group(app, process).ok_or(Code::H14)?;
                record.for_group(group.clone());
                group.acquire_here().await.map(Place::Here)
            }
            Entrance::Inside(call) => call.group.acquire().await,
            Entrance::Hosts => {
                let group = self.ingress.table.lookup(record.host()).ok_or(Code::H81)?;
                record.for_group(group.clone());
                group.acquire().await
            }
        }
    }

    /// Calls the instance; when nothing could be sent to it, another one, once.
    async fn forward(
        &self,
        request: Request<ClientBody>,
        place: Place,
        record: &mut Record,
    ) -> Result<Response<AppBody>, Failure> {
        let failure = match record.at(place).call(request).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        let (Some(group), Some(tried)) = (record.group().cloned(), record.leave()) else {
            return Err(failure);
        };
        let Failure {
            unsent: Some(request),
            ..
        } = failure
        else {
            record.at(tried);
            return Err(failure);
        };
        let place = match (&self.entrance, &tried) {
            (Entrance::Door(_), _) => None,
            (Entrance::Hosts | Entrance::Inside(_), _) => Some(group.acquire_other(&tried).await),
            (Entrance::Peers, Place::Here(here)) => {
                let other = group.acquire_other_here(here.backend()).await;
                Some(other.map(Place::Here))
            }
            (Entrance::Peers, Place::There(_)) => None,
        };
        let Some(place) = place else {
            record.at(tried);
            return Err(Failure::new(failure.code));
        };
        drop(tried);
        // Where there is no other, what the first said of itself tells more.
        let place = place.map_err(|code| match code {
            Code::H14 => Failure::new(failure.code),
            code => Failure::new(code),
        });
        record.at(place?).call(*request).await
    }
}

fn forward_head(parts: &mut http::request::Parts, ends: &Ends, host: &str, record: &Record) {
    let origin = Origin {
        ends,
        host,
        request_id: record.request_id(),
    };
    headers::forward_request(&mut parts.headers, &origin);
}

fn strip_target(parts: &mut http::request::Parts) {
    // The host is in its header, for every protocol alike.
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.extensions.clear();
}

/// Passes an answer on, to another node with the `load` of instances here.
fn respond(
    mut response: Response<AppBody>,
    asker: Asker,
    mut record: Record,
    load: Option<usize>,
) -> Response<Outgoing> {
    let status = response.status();
    record.used(usage_of(&response));
    if status == StatusCode::SWITCHING_PROTOCOLS || status.is_informational() {
        return refuse(Reason::of(Code::H17), asker, record);
    }
    if let AppBody::Peer(_) = response.body() {
        headers::pass_response(response.headers_mut());
    } else if let Err(reason) = headers::forward_response(response.headers_mut(), record.request_id()) {
        return refuse(
            Reason {
                detail: Some(reason),
                ..Reason::of(Code::H17)
            },
            asker,
            record,
        );
    }
    if let Some(load) = load {
        response
            .headers_mut()
            .insert(GILLIAM_LOAD, HeaderValue::from(load));
    }
    record.answered(status);
    let (mut parts, body) = response.into_parts();
    parts.extensions.clear();
    parts.version = http::Version::HTTP_11;
    let length = headers::declared_length(&parts.headers);
    Response::from_parts(parts, Outgoing::new(body, record, length))
}
