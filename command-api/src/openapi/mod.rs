//! The description of the HTTP interface, as `GET /openapi.json` serves it.
//!
//! Routes come in through `routes!`, which takes no handler without a
//! description. What every operation has in common is added here, once.

mod headers;
pub(crate) mod refusals;

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, License, OpenApi, PathItem, RefOr, Required, Response, ServerBuilder};

pub(crate) use headers::{CommandHeaders, Freshness, IfNoneMatch};

use crate::error::{ApiError, ErrorBody};

const ABOUT: &str = "\
The users of an administration, over an append-only log of events.

Bodies are JSON in UTF-8, 1 MiB at most; fields that are not described are ignored. Text is trimmed and \
its accents composed before its length counts. Where a field may be null, an empty text means null, too. \
Times are ISO 8601 in UTC, with milliseconds.

Every refusal has the form `Error`, with a stable `code`; `details` name the fields where the input is wrong. \
A path that does not exist is answered as `components.responses.NoSuchRoute` says, a method that a path does \
not have as `components.responses.MethodNotAllowed` says. `HEAD` is answered like `GET`, without the body.

There is no authentication in this release.";

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
        [("users", "Commands on users, and queries."), ("operations", "Health, figures and this document.")]
            .map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())
            .into(),
    );
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        operation.parameters.get_or_insert_default().push(request_id().into());
        let responses = &mut operation.responses.responses;
        for (status, refusal) in refusals::of([ApiError::Panicked, ApiError::unavailable("")]) {
            responses.entry(status).or_insert(refusal);
        }
        responses.values_mut().for_each(returns_request_id);
    }
    let components = document.components.get_or_insert_default();
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

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
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

fn returns_request_id(response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response {
        let header = refusals::header("The request's id, taken or made.");
        response.headers.insert("X-Request-Id".to_owned(), header.into());
    }
}
