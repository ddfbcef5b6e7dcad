//! Who may ask.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Behind;
use super::answer::Refusal;

/// Lets through who knows the token. Where none is asked for, which is on the loopback only, a page in somebody's browser is
/// kept out all the same: it can send requests to this machine, but not without saying where it came from.
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
        None => request.headers().contains_key(header::ORIGIN).then(|| {
            let message = "requests from a page in a browser need a token: set token under [http]";
            Refusal::new(StatusCode::FORBIDDEN, message)
        }),
    };
    match refusal {
        None => next.run(request).await,
        Some(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
            ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
        }
        Some(refusal) => refusal.into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}
