//! Stands before every route: finds out who asks, and refuses who may not.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::PathItem;

use super::caller::{self, Caller};
use super::rules::{self, Rule};
use super::{Auth, AuthMode, cookies};
use crate::Api;
use crate::client::Client;
use crate::error::ApiError;
use crate::origins;
use crate::subscriptions;

/// Puts the guard before these routes, which the document describes.
pub(crate) fn before(routes: Router, api: Arc<Api>, document: &OpenApi) -> Router {
    let guard = Arc::new(Guard { api, routes: described(document) });
    routes.layer(middleware::from_fn_with_state(guard, Guard::pass))
}

struct Guard {
    api: Arc<Api>,
    /// The rule of each method of each route.
    routes: HashMap<String, HashMap<Method, Rule>>,
}

impl Guard {
    async fn pass(State(guard): State<Arc<Self>>, request: Request, next: Next) -> Response {
        let (mut parts, body) = request.into_parts();
        let caller = match guard.rule_of(&parts.extensions, &parts.method) {
            // No such route, or not with this method: answered as such.
            None => Caller::Anonymous,
            Some((route, rule)) => {
                let name = path_name(&mut parts).await;
                let reads = rules::only_reads(&parts.method, &route);
                let client = Client::of(&parts.extensions);
                let asked = Asked { rule, name: name.as_deref(), reads, client };
                match guard.api.auth.admit(&guard.api, &parts.headers, &asked).await {
                    Ok(caller) => caller,
                    Err(refusal) => return refusal.into_response(),
                }
            }
        };
        parts.extensions.insert(caller);
        next.run(Request::from_parts(parts, body)).await
    }

    fn rule_of(&self, extensions: &axum::http::Extensions, method: &Method) -> Option<(String, Rule)> {
        let route = extensions.get::<MatchedPath>()?.as_str();
        // HEAD is answered as GET without its body.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let Some(methods) = self.routes.get(route) else { return Some((route.to_owned(), Rule::Nobody)) };
        methods.get(method).map(|rule| (route.to_owned(), *rule))
    }
}

/// What is asked, as far as it matters who may.
struct Asked<'a> {
    rule: Rule,
    name: Option<&'a str>,
    reads: bool,
    client: Client,
}

impl Auth {
    async fn admit(&self, api: &Api, headers: &HeaderMap, asked: &Asked<'_>) -> Result<Caller, ApiError> {
        if asked.rule == Rule::Everyone {
            return Ok(Caller::Anonymous);
        }
        let caller = match caller::token(headers) {
            Some((token, by_cookie)) => {
                self.caller(self.tokens.verify(token)?, by_cookie).await?.now(api, asked.reads).await?
            }
            // Who sends what is no token did not mean to act as an administrator.
            None if self.mode == AuthMode::Open && headers.contains_key(header::AUTHORIZATION) => {
                return Err(ApiError::InvalidToken);
            }
            None if self.mode == AuthMode::Open => Caller::Anyone,
            None if asked.rule == Rule::Profiles && self.open_profiles => Caller::Anonymous,
            None => {
                self.hint(asked);
                return Err(ApiError::MissingToken);
            }
        };
        if matches!(caller, Caller::Anyone) && asked.client.loopback && !origins::is_local(headers) {
            return Err(ApiError::Forbidden);
        }
        match (asked.rule, asked.name) {
            (Rule::OfSubscription(_), Some(id)) => {
                let customer = subscriptions::customer_of(api, id).await?;
                asked.rule.check(&caller, customer.as_deref(), asked.reads)?;
            }
            (rule, name) => rule.check(&caller, name, asked.reads)?,
        }
        if let Caller::User(signed_in) = &caller
            && signed_in.by_cookie
            && !asked.reads
        {
            not_forged(api, headers, asked.client)?;
        }
        Ok(caller)
    }

    /// Says once per client why it gets no profiles: the services that ask for them have no token.
    fn hint(&self, asked: &Asked<'_>) {
        if asked.rule == Rule::Profiles && self.told.first_time(asked.client.address) {
            tracing::warn!(
                client = %asked.client.address,
                "Refused a profile to a client without a token; PROFILE_READS=open lets everyone read them, \
                 `annuaire tokens issue` makes a token for a service"
            );
        }
    }
}

/// A page of another site may have sent a browser here, with the user's cookie.
pub(super) fn not_forged(api: &Api, headers: &HeaderMap, client: Client) -> Result<(), ApiError> {
    if origins::may_write(&api.transport.origins, headers, client) {
        Ok(())
    } else {
        Err(ApiError::Forbidden)
    }
}

/// For the routes that look at cookies themselves.
pub(super) fn not_forged_by_cookie(api: &Api, headers: &HeaderMap, client: Client) -> Result<(), ApiError> {
    // What else `Authorization` may hold, a browser may have added by itself.
    let by_header = caller::token(headers).is_some_and(|(_, by_cookie)| !by_cookie);
    let by_cookie = [cookies::ACCESS, cookies::REFRESH].iter().any(|it| cookies::find(headers, it).is_some());
    if by_cookie && !by_header { not_forged(api, headers, client) } else { Ok(()) }
}

/// The user whom the path names.
async fn path_name(parts: &mut axum::http::request::Parts) -> Option<String> {
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    parameters.iter().find(|(name, _)| *name == "id").map(|(_, value)| value.to_owned())
}

/// The rules of all routes of the document.
pub(crate) fn described(document: &OpenApi) -> HashMap<String, HashMap<Method, Rule>> {
    let rules = |route: &str, item: &PathItem| {
        let methods = [
            (Method::GET, item.get.is_some()),
            (Method::PUT, item.put.is_some()),
            (Method::POST, item.post.is_some()),
            (Method::DELETE, item.delete.is_some()),
            (Method::PATCH, item.patch.is_some()),
        ];
        methods
            .into_iter()
            .filter(|(_, there)| *there)
            .map(|(it, _)| (it.clone(), rules::rule(&it, route)))
            .collect()
    };
    document.paths.paths.iter().map(|(route, item)| (route.clone(), rules(route, item))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_rule() {
        let described = described(&crate::openapi());
        assert!(described.len() > 10);
        for (route, methods) in described {
            for (method, rule) in methods {
                assert_ne!(rule, Rule::Nobody, "{method} {route}: name it in rules.rs");
            }
        }
    }
}
