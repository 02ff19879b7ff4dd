//! How nodes come into the cluster: tokens for them, their first certificates, and those that follow.
//!
//! Invariant: a token lets one node in, once: its use and the node are one checked commit.
//! Invariant: a name belongs to the key that joined under it until an operator has the node forgotten.

use axum::{Extension, Json, extract::State};
use gilliam_model::{
    Timestamp,
    code::Code,
    identity::node_dns,
    join::{
        Invitation, Join, JoinToken, Joined, MadeJoinToken, MakeJoinToken, REQUEST_BYTES_MAX, Renew,
        TTL_SECONDS, TTL_SECONDS_MAX,
    },
    name::NodeName,
    node::{Identity, Node},
};
use gilliam_store::{Check, CommitError, Expect, keys, records, records::Stored};
use http::{HeaderMap, StatusCode};

use crate::{
    api::{
        Api,
        auth::{self, Caller, CallingNode},
        extract::{self, LastName},
        openapi::Errors,
        skew,
    },
    authority::{Authority, ProvedKey},
    refusal::Refusal,
    shared::Shared,
    token,
};

/// Invitations kept at once: far more machines than anybody sets up in the time that a token lives.
const INVITATIONS_MAX: usize = 1_000;

/// Makes a token with which one node may join.
#[utoipa::path(post, path = "/v1/join-tokens", operation_id = "make_join_token", tag = "cluster",
    security(("bearer" = [])), request_body = MakeJoinToken,
    responses((status = 200, description = "The token; it is not shown again", body = MadeJoinToken), Errors))]
pub(crate) async fn make_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    extract::Json(make): extract::Json<MakeJoinToken>,
) -> Result<Json<MadeJoinToken>, Refusal> {
    let ttl = make.ttl_seconds.unwrap_or(TTL_SECONDS);
    if !(1..=TTL_SECONDS_MAX).contains(&ttl) {
        let message = format!("a join token for {ttl} s; from 1 s to {TTL_SECONDS_MAX} s are allowed");
        return Err(Refusal::invalid(message));
    }
    invite(&api.shared, &caller.name, ttl).await.map(Json)
}

/// Makes and stores an invitation; those that have ended go meanwhile.
pub(crate) async fn invite(shared: &Shared, author: &str, ttl: u64) -> Result<MadeJoinToken, Refusal> {
    let authority = authority(shared)?;
    let now = Timestamp::now();
    let (_, kept) = records::list::<Invitation>(&shared.store, keys::INVITATIONS).await?;
    let (ended, good): (Vec<_>, Vec<_>) = kept.into_iter().partition(|kept| kept.value.expires_at <= now);
    if good.len() >= INVITATIONS_MAX {
        return Err(Refusal::busy("join tokens").hint("wait until some of them have ended"));
    }
    let (id, secret, secret_sha256) = token::draw().map_err(|e| Refusal::internal(&e))?;
    let lasting = std::time::Duration::from_secs(ttl);
    let expires_at = now.checked_add(lasting).unwrap_or(Timestamp::MAX);
    let invitation = Invitation {
        id: id.clone(),
        secret_sha256,
        author: author.to_owned(),
        created_at: now,
        expires_at,
        used: None,
    };
    let key = keys::invitation(&id);
    let mut writes = vec![records::put(key.clone(), &invitation)];
    let swept = ended.into_iter().take(gilliam_store::COMMIT_OPERATIONS_MAX / 2);
    writes.extend(swept.map(|ended| records::delete(ended.key)));
    shared.store.commit(&[Check::absent(key)], &writes).await?;
    let token = JoinToken {
        id,
        secret,
        ca: authority.digest,
    };
    Ok(MadeJoinToken {
        token: token.text(),
        expires_at,
        servers: shared.servers.clone(),
    })
}

/// Lets a node in that shows a join token, and gives it a certificate.
#[utoipa::path(post, path = "/v1/join", operation_id = "join", tag = "nodes", request_body = Join,
    responses((status = 200, description = "Its certificate", body = Joined), Errors))]
pub(crate) async fn join(
    State(api): State<Api>,
    headers: HeaderMap,
    extract::Json(join): extract::Json<Join, REQUEST_BYTES_MAX>,
) -> Result<Json<Joined>, Refusal> {
    let shared = &*api.shared;
    let authority = authority(shared)?;
    let token = auth::bearer(&headers).and_then(|text| text.parse::<JoinToken>().ok());
    let token = token.ok_or_else(|| {
        Refusal::new(Code::A401, "the join token is missing or malformed").hint(ANOTHER_TOKEN)
    })?;
    let name: NodeName = join.name.parse().map_err(bad_name)?;
    let dns = node_dns(&name).map_err(bad_name)?;
    skew::check(&name, join.protocol, &join.version)?;
    let key = ProvedKey::of(&join.request)
        .ok_or_else(|| Refusal::invalid("the request is not a certificate that its own key signed"))?;
    let now = Timestamp::now();
    let invitation = invited(shared, &token, &name, now).await?;
    let known = records::load::<Node>(&shared.store, &keys::node(&name)).await?;
    admit(shared, &invitation, known, &name, &key, now).await?;
    let certificate = authority
        .certify_node(&dns, &key)
        .map_err(|e| Refusal::internal(&e))?;
    tracing::info!(node = %name, author = invitation.value.author, "a node joined");
    Ok(Json(joined(authority, certificate)))
}

/// Gives a node its next certificate.
#[utoipa::path(post, path = "/v1/nodes/{node}/renew", operation_id = "renew", tag = "nodes",
    security(("bearer" = [])),
    params(("node" = String, Path, description = "The node's name")), request_body = Renew,
    responses((status = 200, description = "Its certificate", body = Joined), Errors))]
pub(crate) async fn renew(
    State(api): State<Api>,
    Extension(node): Extension<CallingNode>,
    LastName(path): LastName,
    extract::Json(renew): extract::Json<Renew, REQUEST_BYTES_MAX>,
) -> Result<Json<Joined>, Refusal> {
    node.speaks_for(&path)?;
    let authority = authority(&api.shared)?;
    let CallingNode::Certified { name, key } = node else {
        return Err(Refusal::unauthenticated());
    };
    let asked = ProvedKey::of(&renew.request).filter(|asked| asked.digest() == key);
    let asked = asked.ok_or_else(|| Refusal::invalid("the request is not signed by the node's own key"))?;
    let dns = node_dns(&name).map_err(bad_name)?;
    let certificate = authority
        .certify_node(&dns, &asked)
        .map_err(|e| Refusal::internal(&e))?;
    Ok(Json(joined(authority, certificate)))
}

const ANOTHER_TOKEN: &str = "gilliam nodes join-token makes one; it is used once and soon";

/// The invitation that a token is for, still open for `name`.
async fn invited(
    shared: &Shared,
    token: &JoinToken,
    name: &NodeName,
    now: Timestamp,
) -> Result<Stored<Invitation>, Refusal> {
    let refused = |message: String| Refusal::new(Code::A401, message).hint(ANOTHER_TOKEN);
    let stored = records::load::<Invitation>(&shared.store, &keys::invitation(&token.id)).await?;
    let stored = stored.filter(|stored| token::is_secret(&token.secret, &stored.value.secret_sha256));
    let Some(stored) = stored else {
        return Err(refused(
            "the join token is not known here, or ended long ago".to_owned(),
        ));
    };
    let Invitation { used, expires_at, .. } = &stored.value;
    match used {
        // Its answer may have been lost: the same node may ask again; whether it is the same its key tells.
        Some((by, at)) if by != name => {
            return Err(refused(format!("the join token was used by node {by} at {at}")));
        }
        _ if *expires_at <= now => return Err(refused(format!("the join token ended at {expires_at}"))),
        _ => {}
    }
    Ok(stored)
}

/// Writes down the node and that its token is used, if the name is free.
async fn admit(
    shared: &Shared,
    invitation: &Stored<Invitation>,
    known: Option<Stored<Node>>,
    name: &NodeName,
    key: &ProvedKey,
    now: Timestamp,
) -> Result<(), Refusal> {
    let holder = known.as_ref().and_then(|known| known.value.identity.as_ref());
    if let Some((by, at)) = &invitation.value.used {
        return match holder {
            Some(holder) if holder.key == key.digest() => Ok(()),
            _ => Err(Refusal::new(
                Code::A401,
                format!("the join token was used by node {by} at {at}"),
            )
            .hint(ANOTHER_TOKEN)),
        };
    }
    let is_live = shared.nodes().get(name).is_some_and(|node| node.is_ready());
    if holder.is_some() || is_live {
        return Err(Refusal::name_taken(name));
    }
    let mut invitation_used = invitation.value.clone();
    invitation_used.used = Some((name.clone(), now));
    let mut node = Node::new(name.clone());
    node.identity = Some(Identity {
        key: key.digest(),
        joined_at: now,
    });
    let checks = [
        invitation.unchanged(),
        Check {
            key: keys::node(name),
            expect: Expect::unchanged(known.as_ref().map(|known| known.revision)),
        },
    ];
    let writes = [
        records::put(invitation.key.clone(), &invitation_used),
        records::put(keys::node(name), &node),
    ];
    match shared.store.commit(&checks, &writes).await {
        Ok(_) => Ok(()),
        Err(CommitError::Conflict { .. }) => Err(Refusal::new(
            Code::A409,
            format!("another node joined as {name}, or with this token, at the same moment"),
        )
        .hint(ANOTHER_TOKEN)),
        Err(error) => Err(error.into()),
    }
}

fn joined(authority: &Authority, certificate: String) -> Joined {
    Joined {
        certificate,
        ca: authority.pem.clone(),
        life_seconds: authority.life.as_secs(),
    }
}

fn authority(shared: &Shared) -> Result<&Authority, Refusal> {
    shared.authority.as_deref().ok_or_else(|| {
        Refusal::new(
            Code::A409,
            "this is a platform of one machine, which no node joins",
        )
        .hint("gilliam server runs the control plane of a cluster")
        .with_status(StatusCode::CONFLICT)
    })
}

fn bad_name(error: gilliam_model::name::NameError) -> Refusal {
    Refusal::invalid(error.to_string()).hint("gilliam node --name NAME chooses another")
}
