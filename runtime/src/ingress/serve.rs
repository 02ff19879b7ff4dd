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
use http::{Request, Response, StatusCode, Uri};
use hyper::{body::Incoming, service::Service};

use super::{
    Ingress,
    access::Record,
    backend::{Failure, InFlight, usage_of},
    body::{AppBody, ClientBody, Outgoing},
    door::Door,
    headers::{self, Ends, Origin},
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
        let ends = self.ends_of(&request);
        let visit = Visit {
            ingress: self.ingress.clone(),
            entrance: self.entrance.clone(),
        };
        Box::pin(async move { Ok(visit.answer(request, ends).await) })
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
struct Visit {
    ingress: Ingress,
    entrance: Entrance,
}

impl Visit {
    async fn answer(&self, request: Request<Incoming>, ends: Ends) -> Response<Outgoing> {
        let arrived = Instant::now();
        let (mut parts, body) = request.into_parts();
        let asker = Asker::of(&parts.headers, parts.version);
        let request_id = self.ingress.ids.next();
        let mut record = Record::new(
            arrived,
            parts.method.clone(),
            parts.uri.path_and_query().cloned(),
            request_id,
        );
        if let Entrance::Door(door) = &self.entrance {
            record.for_group(door.group.clone());
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
        let place = match self.place(&mut record).await {
            Ok(place) => place,
            Err(code) => return refuse(Reason::of(code), asker, record),
        };
        forward_head(&mut parts, &ends, &given, &record);
        let (body, broken_off) = ClientBody::new(body);
        let request = Request::from_parts(parts, body);
        match self.forward(request, place, &mut record).await {
            Ok(response) => respond(response, asker, record),
            Err(failure) => {
                // An app that fails for want of the client's body is not at fault.
                let is_clients = broken_off.is_some_and(|broken_off| broken_off.is_so());
                let code = if is_clients { Code::H27 } else { failure.code };
                let cause = failure.cause;
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

    async fn place(&self, record: &mut Record) -> Result<InFlight, Code> {
        match &self.entrance {
            Entrance::Door(door) => door.acquire(),
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
        place: InFlight,
        record: &mut Record,
    ) -> Result<Response<AppBody>, Failure> {
        let tried = place.backend().clone();
        record.at(place);
        let failure = match tried.call(request).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        let (Entrance::Hosts, Some(group)) = (&self.entrance, record.group().cloned()) else {
            return Err(failure);
        };
        let Failure {
            unsent: Some(request),
            ..
        } = failure
        else {
            return Err(failure);
        };
        record.left();
        let place = group.acquire_other(&tried).await.map_err(Failure::new)?;
        record.at(place).backend().call(*request).await
    }
}

fn forward_head(parts: &mut http::request::Parts, ends: &Ends, host: &str, record: &Record) {
    let origin = Origin {
        ends,
        host,
        request_id: record.request_id(),
    };
    headers::forward_request(&mut parts.headers, &origin);
    // The host is in its header, for every protocol alike.
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.extensions.clear();
}

fn respond(mut response: Response<AppBody>, asker: Asker, mut record: Record) -> Response<Outgoing> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS || status.is_informational() {
        return refuse(Reason::of(Code::H17), asker, record);
    }
    if let Err(reason) = headers::forward_response(response.headers_mut(), record.request_id()) {
        return refuse(
            Reason {
                detail: Some(reason),
                ..Reason::of(Code::H17)
            },
            asker,
            record,
        );
    }
    record.answered(status, usage_of(&response));
    let (mut parts, body) = response.into_parts();
    parts.extensions.clear();
    parts.version = http::Version::HTTP_11;
    let length = headers::declared_length(&parts.headers);
    Response::from_parts(parts, Outgoing::new(body, record, length))
}
