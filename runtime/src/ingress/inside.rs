//! Requests that instances here make of other apps: into the same groups as those of clients, without a socket when an
//! instance of the other app is here too.
//!
//! In: an instance's request and what it uses. Out: the answer as any client would have it, or why it may not ask.
//!
//! Invariant: who calls is said by the node, in headers that no guest and no client can set.

use std::sync::Arc;

use gilliam_engine::{Chain, InternalBody, Refusal};
use gilliam_model::{
    code::Code,
    name::AppName,
    uses::{Use, UseState},
};
use http::{HeaderMap, HeaderValue, Request, Response, header};

use super::{
    Ingress,
    body::{ClientBody, Outgoing},
    group::Group,
    headers::{self, GILLIAM_CALLER, GILLIAM_CALLER_INSTANCE, GILLIAM_DEPTH, X_REQUEST_ID},
    serve::Visit,
    table::Permission,
};

/// Apps that call one another for one request, at most: a request that needs more goes in a circle.
const DEPTH_MAX: u32 = 16;

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct InsideCaller {
    pub(crate) app: AppName,
    /// `web.1`.
    pub(crate) label: String,
}

/// One call of another app.
#[derive(Debug)]
pub(super) struct InsideCall {
    caller: InsideCaller,
    /// `billing.internal`.
    host: HeaderValue,
    depth: u32,
    pub(super) request_id: HeaderValue,
    pub(super) group: Arc<Group>,
}

impl InsideCall {
    /// Turns the headers of the instance's request into those that the other app gets.
    pub(super) fn head(&self, headers: &mut HeaderMap) {
        let value = |text: &str| HeaderValue::from_str(text).expect("a name is visible ASCII");
        let own = [
            (header::HOST, self.host.clone()),
            (X_REQUEST_ID, self.request_id.clone()),
            (GILLIAM_CALLER, value(self.caller.app.as_str())),
            (GILLIAM_CALLER_INSTANCE, value(&self.caller.label)),
            (GILLIAM_DEPTH, HeaderValue::from(self.depth)),
        ];
        headers::forward_inside(headers, own);
    }
}

/// What is to be known of a request that a guest serves, when it calls others for it.
pub(crate) fn chain(served: &HeaderMap) -> Chain {
    let depth = served.get(GILLIAM_DEPTH);
    Chain {
        request_id: served.get(X_REQUEST_ID).cloned(),
        depth: depth
            .and_then(|depth| depth.to_str().ok()?.parse().ok())
            .unwrap_or(0),
    }
}

impl Ingress {
    /// Has another app answer an instance's request to `name`, which means `used` to it.
    pub(crate) async fn call_inside(
        self,
        caller: InsideCaller,
        (name, used): (String, Use),
        request: Request<InternalBody>,
        chain: Chain,
    ) -> Result<Response<InternalBody>, Refusal> {
        self.may_call(&caller.app, &name, &used, chain.depth)?;
        let host = HeaderValue::from_str(&format!("{name}.internal"));
        let call = InsideCall {
            caller,
            host: host.expect("a name is visible ASCII"),
            depth: chain.depth + 1,
            request_id: chain.request_id.unwrap_or_else(|| self.ids.next()),
            group: self.table.group(&used.app, &used.process),
        };
        if !self.vigil.is_clear() {
            self.vigil.pass().await;
        }
        let mut request = request.map(ClientBody::of_guest);
        // Checked as that of a client: the guest may have named another host than it called.
        request.headers_mut().insert(header::HOST, call.host.clone());
        let response = Visit::inside(self, call).answer(request, None).await;
        Ok(response.map(Outgoing::for_guest))
    }

    fn may_call(&self, caller: &AppName, name: &str, used: &Use, depth: u32) -> Result<(), Refusal> {
        if depth >= DEPTH_MAX {
            let message =
                format!("{DEPTH_MAX} apps called one another before {caller} called {name}.internal");
            let hint = "look for a circle: gilliam uses --graph";
            return Err(Refusal::new(Code::N06, message, hint));
        }
        let (code, state) = match self.table.permission(&used.app, caller) {
            Permission::Given => return Ok(()),
            Permission::Refused => (Code::N05, UseState::NotPermitted),
            Permission::NoApp => (Code::H81, UseState::NoApp),
        };
        let (what, hint) = state.remark(caller, used).unwrap_or_default();
        Err(Refusal::new(code, format!("{name}.internal: {what}"), hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read_from_what_the_platform_said() {
        let mut served = HeaderMap::new();
        assert_eq!(chain(&served), Chain::default());
        served.insert(GILLIAM_DEPTH, HeaderValue::from_static("3"));
        served.insert(X_REQUEST_ID, HeaderValue::from_static("r-1"));
        let chain = chain(&served);
        assert_eq!(
            (chain.depth, chain.request_id.as_ref().map(HeaderValue::as_bytes)),
            (3, Some(&b"r-1"[..]))
        );
    }
}
