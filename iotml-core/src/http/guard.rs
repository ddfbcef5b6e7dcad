//! Who may ask.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Behind;
use super::answer::Refusal;

/// Lets through who knows the token. Where none is asked for, which is on the loopback only, a page in somebody's browser is
/// kept out all the same: it can send requests to this machine, but not without saying where it came from, or to which name.
pub(super) async fn guard(State(behind): State<Arc<Behind>>, request: Request, next: Next) -> Response {
    let refusal = match &behind.token {
        Some(token) => match bearer(request.headers()) {
            Some(shown) if token.is(shown) => None,
            shown => {
                let message = match shown {
                    Some(_) => "the token is wrong",
                    None => "a token is needed: send the header Authorization: Bearer TOKEN",
                };
                Some(Refusal::new(StatusCode::UNAUTHORIZED, message))
            }
        },
        None if request.headers().contains_key(header::ORIGIN) => {
            let message = "requests from a page in a browser need a token: set token under [http]";
            Some(Refusal::new(StatusCode::FORBIDDEN, message))
        }
        None if !is_for_loopback(&request) => {
            let message = "without a token, ask for localhost or an address of the loopback; or set token under [http]";
            Some(Refusal::new(StatusCode::FORBIDDEN, message))
        }
        None => None,
    };
    match refusal {
        None => next.run(request).await,
        Some(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
            ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
        }
        Some(refusal) => refusal.into_response(),
    }
}

/// Whether the request is addressed to this machine, and not by a name that a page in a browser has made to lead here: such a page
/// may read without saying where it comes from, but not by another name than its own.
fn is_for_loopback(request: &Request) -> bool {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let named = request.uri().authority().cloned().or(named);
    let Some(host) = named.as_ref().map(Authority::host) else { return false };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}
