//! The description of the HTTP interface, as `GET /openapi.json` serves it.
//!
//! Routes come in through `routes!`, which takes no handler without a
//! description. What every operation has in common is added here, once.

mod headers;
pub(crate) mod refusals;

use axum::http::Method;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Header, InfoBuilder, License, OpenApi, PathItem, RefOr, Required, Response, ServerBuilder,
};

pub(crate) use headers::{CommandHeaders, Freshness, IfNoneMatch};

use crate::auth::{self, Rule};
use crate::error::{ApiError, ErrorBody};
use crate::paths;

const ABOUT: &str = "\
The users of an administration, over an append-only log of events.

Bodies are JSON in UTF-8, 1 MiB at most, and sent within 10 s; fields that are not described are ignored. Text is trimmed and \
its accents composed before its length counts. Where a field may be null, an empty text means null, too. \
Times are ISO 8601 in UTC, with milliseconds.

Every refusal has the form `Error`, with a stable `code`; `details` name the fields where the input is wrong. \
A path that does not exist is answered as `components.responses.NoSuchRoute` says, a method that a path does \
not have as `components.responses.MethodNotAllowed` says. `HEAD` is answered like `GET`, without the body.

Who asks proves it with a token of `/login`, as `Authorization: Bearer` or in the cookie `accessToken`. Where a process runs with `AUTH_MODE=open`, a request without a token acts as an administrator.";

/// Adds to the operations that a router has gathered what all of them share.
pub(crate) fn finished(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("annuaire")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))))
        .build();
    document.servers = Some(vec![ServerBuilder::new().url("/").build()]);
    document.tags = Some(
        [
            ("users", "Commands on users, and queries."),
            ("authentication", "Logins, sessions, passwords."),
            ("operations", "Health, figures and this document."),
        ]
        .map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())
        .into(),
    );
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in methods(item) {
            let parameters = operation.parameters.get_or_insert_default();
            // Of those that `CommandHeaders` describes.
            let is_command =
                parameters.iter().any(|it| matches!(it, RefOr::T(it) if it.name == "Idempotency-Key"));
            parameters.push(request_id().into());
            guarded(operation, auth::rule(&method, path));
            let responses = &mut operation.responses.responses;
            for (status, refusal) in refusals::of(of_all(path, responses.contains_key("413"))) {
                responses.entry(status).or_insert(refusal);
            }
            responses.values_mut().for_each(returns_request_id);
            if is_command {
                let successes = responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
                successes.for_each(|(_, response)| returns_place(response));
            }
        }
    }
    let components = document.components.get_or_insert_default();
    components.security_schemes.extend(security_schemes());
    components.schemas.insert("Error".to_owned(), ErrorBody::described().into());
    for (name, error) in
        [("NoSuchRoute", ApiError::NoSuchRoute), ("MethodNotAllowed", ApiError::MethodNotAllowed)]
    {
        for mut refusal in refusals::of([error]).into_values() {
            returns_request_id(&mut refusal);
            components.responses.insert(name.to_owned(), refusal);
        }
    }
    document
}

/// What an operation may answer whatever it does; `reads_body`: it refuses one that is too large.
fn of_all(path: &str, reads_body: bool) -> Vec<ApiError> {
    let mut errors = vec![ApiError::Panicked, ApiError::unavailable("")];
    if reads_body {
        errors.push(ApiError::TooSlow);
    }
    if !paths::is_watching(path) {
        errors.push(ApiError::RateLimited { retry_after: 1 });
    }
    errors
}

fn methods(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Says who may, and what the others are answered.
fn guarded(operation: &mut Operation, rule: Rule) {
    let refusals = match rule {
        Rule::Everyone => return,
        Rule::Profiles
        | Rule::Oneself
        | Rule::OnlyOneself
        | Rule::Administrator
        | Rule::AdministratorOrService
        | Rule::OfCustomer(_)
        | Rule::OfSubscription(_)
        | Rule::Nobody => refusals::of([ApiError::MissingToken, ApiError::InvalidToken, ApiError::Forbidden]),
    };
    for (status, refusal) in refusals {
        operation.responses.responses.entry(status).or_insert(refusal);
    }
    // One of them is enough.
    let schemes = ["token", "cookie"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
    operation.security = Some(schemes.into());
}

fn security_schemes() -> [(String, RefOr<SecurityScheme>); 2] {
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let cookie = ApiKey::Cookie(ApiKeyValue::new(auth::ACCESS_COOKIE));
    [
        ("token".to_owned(), SecurityScheme::Http(token).into()),
        ("cookie".to_owned(), SecurityScheme::ApiKey(cookie).into()),
    ]
}

fn request_id() -> Parameter {
    ParameterBuilder::new()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Names the request in the log and in its events; another text than this is not taken.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,128}$"))))
        .build()
}

/// What the answer to a command says of where it led.
fn returns_place(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response {
        let int64 = SchemaFormat::KnownFormat(KnownFormat::Int64);
        let position = ObjectBuilder::new().schema_type(Type::Integer).format(Some(int64));
        let mut position = Header::new(position);
        position.description = Some("Where the command stands in the log.".to_owned());
        let lag = refusals::header("`true` where queries do not see the command yet.");
        response.headers.extend([
            ("ETag".to_owned(), refusals::header("The resource's version, in quotes.").into()),
            ("X-Event-Position".to_owned(), position.into()),
            ("X-Projection-Lag".to_owned(), lag.into()),
        ]);
    }
}

fn returns_request_id(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response {
        let header = refusals::header("The request's id, taken or made.");
        response.headers.insert("X-Request-Id".to_owned(), header.into());
    }
}
