use axum::body::to_bytes;

use super::*;

async fn answered(error: ApiError) -> (u16, Option<String>, String) {
    let response = error.into_response();
    let retry = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, retry, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_fault_of_ours_tells_nothing_of_its_cause() {
    let (status, retry, body) = answered(ApiError::internal("secret of the database")).await;
    assert_eq!((status, retry), (500, None));
    assert_eq!(body, r#"{"success":false,"message":"Erreur interne du serveur","code":"INTERNAL"}"#);
}

#[tokio::test]
async fn a_database_out_of_reach_is_asked_again_in_a_second() {
    let unavailable =
        r#"{"success":false,"message":"Service momentanément indisponible, réessayez","code":"UNAVAILABLE"}"#;
    for error in [
        ApiError::from(sqlx::Error::PoolTimedOut),
        ApiError::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into())),
        ApiError::from(StoreError::Unavailable("gone".into())),
        ApiError::from(ExecuteError::<Rejection>::Overloaded),
    ] {
        assert_eq!(answered(error).await, (503, Some("1".to_owned()), unavailable.to_owned()));
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let refusal =
        r#"{"success":false,"message":"Trop de requêtes, réessayez plus tard","code":"RATE_LIMITED"}"#;
    let error = ApiError::RateLimited { retry_after: 42 };
    assert_eq!(answered(error).await, (429, Some("42".to_owned()), refusal.to_owned()));
}

#[tokio::test]
async fn a_log_that_refuses_or_is_corrupt_is_a_fault_of_ours() {
    for error in [StoreError::Refused("a".into()), StoreError::Corrupt("b".into())] {
        assert_eq!(answered(error.into()).await.0, 500);
    }
    assert_eq!(answered(sqlx::Error::RowNotFound.into()).await.0, 500);
}

#[tokio::test]
async fn every_refusal_of_a_user_has_its_code() {
    for (rejection, status, code) in [
        (Rejection::NotFound, 404, "USER_NOT_FOUND"),
        (Rejection::IdTaken, 409, "ID_TAKEN"),
        (Rejection::MatriculeTaken, 409, "MATRICULE_TAKEN"),
        (Rejection::EmailTaken, 409, "EMAIL_TAKEN"),
        (Rejection::UsernameTaken, 409, "USERNAME_TAKEN"),
        (Rejection::Protected, 403, "FORBIDDEN"),
    ] {
        let (found, _, body) = answered(ApiError::User(rejection.clone())).await;
        assert_eq!(found, status);
        assert_eq!(body, format!(r#"{{"success":false,"message":"{rejection}","code":"{code}"}}"#));
    }
}

#[tokio::test]
async fn what_may_not_be_said_of_a_customer_is_a_bad_field_and_what_was_said_before_a_conflict() {
    let (status, _, body) = answered(customer::Rejection::ProfileTooLarge.told()).await;
    assert_eq!(status, 400);
    assert!(body.contains(r#""details":[{"field":"profile","message":"Le profil"#), "{body}");
    let (status, _, body) = answered(customer::Rejection::Known.told()).await;
    assert!(status == 409 && body.contains("INVALID_STATE"), "{body}");
}
