//! Which refusals an operation answers with. Status, code and sentence are
//! those of [`ApiError`], so that the document can't differ from what is sent.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use domain::access::Rejection::{MfaIsOff, MfaIsOn};
use domain::administrators::Rejection::Last;
use domain::customer::Rejection::{
    InvalidState as CustomerState, NotFound as NoCustomer, TooManySubscriptions,
};
use domain::subscription::Rejection::{InvalidState as SubscriptionState, NotFound as NoSubscription};
use domain::token_account::Rejection::NotEnough;
use domain::user::Rejection::{
    EmailTaken, IdTaken, MatriculeTaken, NoEmail, NotFound, TooManyAddresses, UsernameTaken,
};
use serde_json::Value;
use utoipa::IntoResponses;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Content, Header, Ref, RefOr, Response};

use crate::error::ApiError::{
    self, Access, AccountSuspended, Administrators, Customer, Forbidden, InvalidCredentials,
    InvalidRefreshToken, InvalidToken, KeyReused, MalformedJson, MfaRequired, MissingToken, NoSuchRoute,
    RateLimited, StaleLogin, Subscription, Tokens, TooLarge, UnsupportedMediaType, User, VersionConflict,
};

macro_rules! refusals {
    ($($(#[$doc:meta])+ $name:ident: [$($error:expr),+ $(,)?];)+) => {$(
        $(#[$doc])+
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                of([$($error),+])
            }
        }
    )+};
}

refusals! {
    /// Of a creation.
    Creation: [
        invalid("nom"), MalformedJson, Customer(NoCustomer), User(IdTaken), User(MatriculeTaken), User(EmailTaken),
        User(UsernameTaken), VersionConflict, TooLarge, UnsupportedMediaType, KeyReused,
    ];
    /// Of a change.
    Change: [
        invalid("sexe"), MalformedJson, User(NotFound), NoSuchRoute, User(MatriculeTaken), User(EmailTaken),
        User(UsernameTaken), VersionConflict, TooLarge, UnsupportedMediaType, KeyReused,
    ];
    /// Of a change of status.
    ChangeOfStatus: [
        invalid("status"), MalformedJson, User(NotFound), NoSuchRoute, Administrators(Last), VersionConflict,
        TooLarge, UnsupportedMediaType, KeyReused,
    ];
    /// Of a change of a role.
    ChangeOfRole: [
        invalid("role"), User(NotFound), NoSuchRoute, Administrators(Last), VersionConflict, KeyReused,
    ];
    /// Of a deletion.
    Deletion: [
        invalid("id"), User(NotFound), NoSuchRoute, Administrators(Last), VersionConflict, KeyReused,
    ];
    /// Of a login.
    Login: [
        invalid("password"), MalformedJson, InvalidCredentials, MfaRequired, AccountSuspended, TooLarge,
        UnsupportedMediaType, RateLimited { retry_after: 60 },
    ];
    /// Of a refresh token.
    Refresh: [
        invalid("refreshToken"), MalformedJson, MissingToken, InvalidRefreshToken, Forbidden, TooLarge,
        UnsupportedMediaType,
    ];
    /// Of the end of a session.
    Logout: [invalid("refreshToken"), MalformedJson, Forbidden, TooLarge, UnsupportedMediaType];
    /// Of a question whether a token is good.
    Validation: [invalid("token"), MalformedJson, MissingToken, InvalidToken, TooLarge, UnsupportedMediaType];
    /// Of a change of password.
    PasswordChange: [
        invalid("newPassword"), MalformedJson, MissingToken, InvalidToken, InvalidCredentials, Forbidden,
        User(NotFound), NoSuchRoute, VersionConflict, TooLarge, UnsupportedMediaType,
        RateLimited { retry_after: 60 },
    ];
    /// Of a mail to who forgot the password.
    ForgottenPassword: [
        invalid("email"), MalformedJson, TooLarge, UnsupportedMediaType, RateLimited { retry_after: 60 },
    ];
    /// Of another password by a mail.
    Reset: [
        invalid("newPassword"), MalformedJson, InvalidToken, TooLarge, UnsupportedMediaType,
        RateLimited { retry_after: 60 },
    ];
    /// Of the link of a mail.
    Link: [
        invalid("token"), MalformedJson, InvalidToken, TooLarge, UnsupportedMediaType,
        RateLimited { retry_after: 60 },
    ];
    /// Of a mail that proves the e-mail address.
    Verification: [
        invalid("id"), User(NotFound), NoSuchRoute, User(NoEmail), VersionConflict, KeyReused,
    ];
    /// Of a registration.
    Registration: [
        invalid("nom"), MalformedJson, NoSuchRoute, User(MatriculeTaken), User(EmailTaken), User(UsernameTaken),
        TooLarge, UnsupportedMediaType, KeyReused, RateLimited { retry_after: 60 },
    ];
    /// Of a new address.
    NewAddress: [
        invalid("line1"), MalformedJson, User(NotFound), NoSuchRoute, User(TooManyAddresses), VersionConflict,
        TooLarge, UnsupportedMediaType, KeyReused,
    ];
    /// Of a change of an address.
    AddressChange: [
        invalid("line1"), MalformedJson, User(NotFound), NoSuchRoute, VersionConflict, TooLarge,
        UnsupportedMediaType, KeyReused,
    ];
    /// Of the end of an address.
    AddressDeletion: [invalid("id"), User(NotFound), NoSuchRoute, VersionConflict, KeyReused];
    /// Of what happened to a user.
    History: [invalid("limit"), User(NotFound), NoSuchRoute];
    /// Of the wish for a second factor.
    Enrolment: [
        invalid("id"), Forbidden, StaleLogin, User(NotFound), NoSuchRoute, Access(MfaIsOn), VersionConflict,
    ];
    /// Of a first code.
    Confirmation: [
        invalid("code"), MalformedJson, MissingToken, InvalidToken, InvalidCredentials, User(NotFound),
        NoSuchRoute, Access(MfaIsOff), Access(MfaIsOn), VersionConflict, TooLarge, UnsupportedMediaType,
        RateLimited { retry_after: 60 },
    ];
    /// Of the end of a second factor.
    MfaRemoval: [
        invalid("code"), MalformedJson, MissingToken, InvalidToken, InvalidCredentials, User(NotFound),
        NoSuchRoute, Access(MfaIsOff), VersionConflict, TooLarge, UnsupportedMediaType,
        RateLimited { retry_after: 60 },
    ];
    /// Of a new customer.
    NewCustomer: [
        invalid("name"), MalformedJson, VersionConflict, TooLarge, UnsupportedMediaType, KeyReused,
    ];
    /// Of a change of a customer.
    CustomerChange: [
        invalid("name"), MalformedJson, Customer(NoCustomer), VersionConflict, TooLarge, UnsupportedMediaType,
        KeyReused,
    ];
    /// Of a step of a customer to another status.
    CustomerStep: [
        invalid("notes"), MalformedJson, Customer(NoCustomer), Customer(CustomerState), VersionConflict, TooLarge,
        UnsupportedMediaType, KeyReused,
    ];
    /// Of the end of a customer.
    CustomerDeletion: [invalid("id"), Customer(NoCustomer), VersionConflict, KeyReused];
    /// Of a new subscription.
    NewSubscription: [
        invalid("endsAt"), MalformedJson, Customer(NoCustomer), Customer(TooManySubscriptions), VersionConflict,
        TooLarge, UnsupportedMediaType, KeyReused,
    ];
    /// Of a command on a subscription.
    SubscriptionChange: [
        invalid("endsAt"), MalformedJson, Subscription(NoSubscription), Subscription(SubscriptionState),
        VersionConflict, TooLarge, UnsupportedMediaType, KeyReused,
    ];
    /// Of tokens that come or go.
    TokenMovement: [
        invalid("amount"), MalformedJson, Customer(NoCustomer), Tokens(NotEnough), VersionConflict, TooLarge,
        UnsupportedMediaType, KeyReused,
    ];
    /// Of a query of a customer.
    OfCustomer: [invalid("id"), Customer(NoCustomer)];
    /// Of a query of a subscription.
    OfSubscription: [invalid("id"), Subscription(NoSubscription)];
    /// Of a query for one user.
    One: [invalid("id"), User(NotFound), NoSuchRoute];
    /// Of a document that may not be there.
    Missing: [NoSuchRoute];
    /// Of a list that may be asked for what one does not see.
    List: [invalid("limit"), Forbidden];
    /// Of a query whose parameters may be wrong.
    Many: [invalid("ids")];
    /// Of a query whose body may be wrong.
    ManyOfBody: [invalid("ids"), MalformedJson, TooLarge, UnsupportedMediaType];
}

fn invalid(field: &'static str) -> ApiError {
    ApiError::invalid(field, "ce qui est attendu")
}

/// One response a status, with the codes that it may carry.
pub(crate) fn of(errors: impl IntoIterator<Item = ApiError>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<StatusCode, Vec<ApiError>>::new();
    for error in errors {
        by_status.entry(error.status().0).or_default().push(error);
    }
    by_status
        .into_iter()
        .map(|(status, errors)| (status.as_str().to_owned(), response(status, &errors).into()))
        .collect()
}

fn response(status: StatusCode, errors: &[ApiError]) -> Response {
    let mut codes: Vec<&str> = errors.iter().map(|error| error.status().1).collect();
    codes.dedup();
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("Error"))
        .item(ObjectBuilder::new().schema_type(Type::Object).property("code", code));
    let mut content = Content::new(Some(schema));
    content.example =
        errors.first().map(|error| error.with_body(|body| serde_json::to_value(body).unwrap_or(Value::Null)));
    let sentences: Vec<String> =
        errors.iter().map(|error| format!("`{}`: {}.", error.status().1, error.message())).collect();
    let mut response = Response::new(sentences.join(" "));
    response.content.insert("application/json".to_owned(), content.into());
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.headers.insert("Retry-After".to_owned(), header("Seconds after which to ask again.").into());
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers.insert("Allow".to_owned(), header("The methods that the path has.").into());
    }
    response
}

/// A header that is a text.
pub(crate) fn header(description: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(Type::String));
    header.description = Some(description.to_owned());
    header
}
