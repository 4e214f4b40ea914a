//! `GET /all` and its twin `/alls`: every user as one stream, or page by page.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use domain::ids::is_well_formed;
use domain::user::Status;
use domain::values::{Sexe, Text};
use futures::{Stream, stream};
use percent_encoding::utf8_percent_encode;
use projections::users::{self, Filter, UserRow};
use sqlx::PgPool;
use utoipa::IntoResponses;

use super::profile::ProfileBody;
use super::queries::wait_for;
use super::schemas::ListParameters;
use crate::answer::COMPONENT;
use crate::auth::Caller;
use crate::conditions::MinPosition;
use crate::error::{ApiError, Detail};
use crate::openapi::{Freshness, refusals};
use crate::query::Parameters;
use crate::{Api, answer};

/// The largest page, and how many users a stream reads at a time.
const MAX_PAGE: u16 = 1_000;

/// The users, in the order of their ids.
#[derive(IntoResponses)]
#[response(
    status = 200,
    headers(
        ("Link" = String, description = "The next page, if there is one: with `limit` only."),
        ("X-Total-Count" = i64, description = "How many there are on all pages: with `limit` only."),
        ("X-Total-Count-Exact" = String, description = "`false` where that is an estimate."),
    ),
)]
#[expect(dead_code, reason = "it describes")]
struct Listed(Vec<ProfileBody<'static>>);

/// Lists every user as one stream or, with `limit`, page by page.
#[utoipa::path(
    get,
    path = "/all",
    operation_id = "listUsers",
    tag = "users",
    params(ListParameters, Freshness),
    responses(Listed, refusals::List)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    path: MatchedPath,
    min: MinPosition,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let asked = Asked::of(&parameters)?;
    if asked.filter.status.is_some() && !caller.sees_all_whole() {
        return Err(ApiError::Forbidden);
    }
    wait_for(&api, &min).await?;
    match asked.limit {
        Some(limit) => page(&api, &caller, path.as_str(), &asked, limit).await,
        None => everyone(api.pool.clone(), caller, asked).await,
    }
}

/// The same as `/all`.
#[utoipa::path(
    get,
    path = "/alls",
    operation_id = "listUsersToo",
    tag = "users",
    params(ListParameters, Freshness),
    responses(Listed, refusals::List)
)]
pub(super) async fn list_too(
    api: State<Arc<Api>>,
    caller: Caller,
    path: MatchedPath,
    min: MinPosition,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    list(api, caller, path, min, parameters).await
}

/// What the parameters ask for.
#[derive(Debug, Default)]
struct Asked {
    filter: Filter,
    after: Option<String>,
    limit: Option<u16>,
}

impl Asked {
    fn of(parameters: &Parameters) -> Result<Self, ApiError> {
        let mut wrong = Vec::new();
        let line = |text: &str| Text::parse(text).map(|it| it.as_str().to_owned());
        let filter = Filter {
            q: parameters.read("q", &mut wrong, line),
            ministere: parameters.read("ministere", &mut wrong, line),
            sexe: parameters.read("sexe", &mut wrong, Sexe::parse).map(|it| it.as_str().to_owned()),
            status: parameters.read("status", &mut wrong, Status::parse).map(|it| it.as_str().to_owned()),
        };
        let limit = parameters.get("limit").and_then(|text| {
            // `parse` alone would take a plus sign.
            let number = text.parse().ok().filter(|number| (1..=MAX_PAGE).contains(number));
            let limit = number.filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            if limit.is_none() {
                wrong.push(Detail::new("limit", format!("nombre entier de 1 à {MAX_PAGE} attendu")));
            }
            limit
        });
        let after = parameters.get("after").map(str::to_owned);
        if after.as_deref().is_some_and(|after| !is_well_formed(after)) {
            wrong.push(Detail::new("after", "identifiant malformé ou réservé"));
        }
        if wrong.is_empty() { Ok(Self { filter, after, limit }) } else { Err(ApiError::Invalid(wrong)) }
    }

    /// The address of the page behind this id.
    fn next(&self, path: &str, limit: u16, last: &str) -> String {
        let mut address = format!("{path}?limit={limit}&after={}", utf8_percent_encode(last, COMPONENT));
        let Filter { q, ministere, sexe, status } = &self.filter;
        for (name, value) in [("q", q), ("ministere", ministere), ("sexe", sexe), ("status", status)] {
            if let Some(value) = value {
                address.extend(["&", name, "="]);
                address.extend(utf8_percent_encode(value, COMPONENT));
            }
        }
        address
    }
}

async fn page(
    api: &Api,
    caller: &Caller,
    path: &str,
    asked: &Asked,
    limit: u16,
) -> Result<Response, ApiError> {
    // One more than asked tells whether there is a next page.
    let more = i64::from(limit) + 1;
    let (rows, total) = tokio::try_join!(
        users::page(&api.pool, &asked.filter, asked.after.as_deref(), more),
        users::count(&api.pool, &asked.filter),
    )?;
    let shown = &rows[..rows.len().min(limit.into())];
    let body: Vec<_> = shown.iter().map(|row| ProfileBody::seen_by(caller, row)).collect();
    let last = shown.last().filter(|_| rows.len() > shown.len());
    let next = last.map(|last| asked.next(path, limit, &last.id));
    Ok(answer::counted(answer::linked(answer::json(StatusCode::OK, &body)?, next)?, total))
}

async fn everyone(pool: PgPool, caller: Caller, asked: Asked) -> Result<Response, ApiError> {
    // The first page is read before the answer begins: a database that is away is told by the status.
    let rows = users::page(&pool, &asked.filter, asked.after.as_deref(), MAX_PAGE.into()).await?;
    Ok(answer::with_json(StatusCode::OK, Body::from_stream(pages(pool, caller, asked.filter, rows))))
}

/// How often a list that has begun waits for a connection, a second each time.
const TURNS: u32 = 30;

enum Pages {
    /// To be sent: the first pages when there were none before.
    Ready {
        rows: Vec<UserRow>,
        is_first: bool,
    },
    /// To be read from the row behind this id.
    Behind(String),
    Finished,
}

/// Every user in pages, so that no long query holds on to the past of the
/// database. An error in between breaks the transfer off: an array that merely
/// ended there would pass for the whole.
fn pages(
    pool: PgPool,
    caller: Caller,
    filter: Filter,
    first: Vec<UserRow>,
) -> impl Stream<Item = Result<Bytes, sqlx::Error>> {
    let start = Pages::Ready { rows: first, is_first: true };
    stream::try_unfold((pool, caller, filter, start), |(pool, caller, filter, pages)| async move {
        let (rows, is_first) = match pages {
            Pages::Finished => return Ok(None),
            Pages::Ready { rows, is_first } => (rows, is_first),
            Pages::Behind(id) => {
                let read = next_page(&pool, &filter, &id).await;
                let read = read.inspect_err(|error| {
                    tracing::error!(error = error as &dyn std::error::Error, "Broke off a list of users");
                });
                (read?, false)
            }
        };
        let next = match rows.last() {
            Some(last) if rows.len() == usize::from(MAX_PAGE) => Pages::Behind(last.id.clone()),
            Some(_) | None => Pages::Finished,
        };
        let chunk = chunk(&caller, &rows, is_first, matches!(next, Pages::Finished));
        Ok(Some((chunk.map_err(sqlx::Error::decode)?, (pool, caller, filter, next))))
    })
}

/// The page behind an id. Where many lists are read at once it waits for its
/// turn: what has begun with 200 must not break off for want of a connection.
async fn next_page(pool: &PgPool, filter: &Filter, after: &str) -> Result<Vec<UserRow>, sqlx::Error> {
    for _ in 1..TURNS {
        match users::page(pool, filter, Some(after), MAX_PAGE.into()).await {
            Err(sqlx::Error::PoolTimedOut) => {}
            read => return read,
        }
    }
    users::page(pool, filter, Some(after), MAX_PAGE.into()).await
}

/// A part of one JSON array.
fn chunk(
    caller: &Caller,
    rows: &[UserRow],
    is_first: bool,
    is_last: bool,
) -> Result<Bytes, serde_json::Error> {
    let mut json = Vec::with_capacity(rows.len() * 512 + 2);
    if is_first {
        json.push(b'[');
    }
    for (index, row) in rows.iter().enumerate() {
        if index > 0 || !is_first {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &ProfileBody::seen_by(caller, row))?;
    }
    if is_last {
        json.push(b']');
    }
    Ok(json.into())
}
