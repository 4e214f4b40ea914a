use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn text_is_trimmed_and_composed() {
    assert_eq!(Text::parse("  Ne\u{301}e \n").unwrap().as_str(), "N\u{e9}e");
}

#[test]
fn text_has_1_to_200_characters_however_many_bytes() {
    assert!(Text::parse("é").is_ok());
    assert!(Text::parse(&"é".repeat(200)).is_ok());
    // Composed, that is 200 characters.
    assert!(Text::parse(&"e\u{301}".repeat(200)).is_ok());
    for refused in [String::new(), "   ".to_owned(), "é".repeat(201)] {
        assert!(Text::parse(&refused).is_err(), "{refused:?}");
    }
}

#[test]
fn text_has_no_control_character() {
    for refused in ["a\0b", "\0", "a\nb", "a\tb", "a\u{7f}b", "a\u{85}b", "a\u{1b}[0m"] {
        assert!(Text::parse(refused).is_err(), "{refused:?}");
        assert!(Username::parse(refused).is_err(), "{refused:?}");
    }
}

#[test]
fn a_refused_value_says_what_is_accepted() {
    assert_eq!(Text::parse("").unwrap_err().to_string(), "1 à 200 caractères, sans caractère de contrôle");
}

#[test]
fn an_email_is_kept_as_written_and_compared_without_case() {
    let email = Email::parse(" Awa.Diop+x@Example.SN ").unwrap();
    assert_eq!(email.as_str(), "Awa.Diop+x@Example.SN");
    assert_eq!(email.folded(), "awa.diop+x@example.sn");
}

#[test]
fn folding_sees_through_letters_that_are_composed_in_lower_case_only() {
    let upper = Email::parse("J\u{30c}@example.org").unwrap();
    let lower = Email::parse("\u{1f0}@example.org").unwrap();
    assert_eq!(upper.folded(), lower.folded());
}

#[test]
fn what_looks_like_an_email_is_one() {
    for email in [
        "a@b",
        "root@localhost",
        "o'neil@example.org",
        "élise@exemple.fr",
        "a@bücher.example",
        "x_y@my-host.example",
    ] {
        assert!(Email::parse(email).is_ok(), "{email}");
    }
}

#[test]
fn what_does_not_look_like_an_email_is_refused() {
    for garbage in [
        "",
        "a",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "a@b c",
        "a@.b",
        "a@b.",
        "a@b..c",
        "a@-b",
        "a@b-.c",
        "Awa <a@b.c>",
        "a@b.c, d@e.f",
        "mailto:a@b.c",
        "a@[127.0.0.1]",
        "a\u{a0}b@c",
        "a@b\u{2028}c",
        "a\0@b",
        "a@b\r\nBcc: c@d",
        // A Greek question mark, which composes to a semicolon.
        "a\u{37e}b@c",
    ] {
        assert!(Email::parse(garbage).is_err(), "{garbage:?}");
    }
}

#[test]
fn an_email_has_at_most_254_characters() {
    let domain = "@example.org";
    assert!(Email::parse(&("a".repeat(254 - domain.len()) + domain)).is_ok());
    assert!(Email::parse(&("a".repeat(255 - domain.len()) + domain)).is_err());
}

#[test]
fn an_avatar_is_kept_as_written() {
    for url in ["https://cdn.example.org/a b.png", "HTTP://Example.ORG", "http://[::1]:80/x?y#z"] {
        assert_eq!(AvatarUrl::parse(&format!(" {url} ")).unwrap().as_str(), url);
    }
}

#[test]
fn an_avatar_is_an_http_url_with_a_host() {
    for refused in [
        "",
        "a.png",
        "/a.png",
        "//example.org/a.png",
        "ftp://example.org/a.png",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "http:example.org",
        "http://",
        "https://exa mple.org",
        "https://example.org/a\0.png",
        "https://example.org/a\n.png",
        "https://example.org:port/",
    ] {
        assert!(AvatarUrl::parse(refused).is_err(), "{refused:?}");
    }
}

#[test]
fn an_avatar_has_at_most_2048_characters() {
    let start = "https://example.org/";
    assert!(AvatarUrl::parse(&(start.to_owned() + &"a".repeat(2048 - start.len()))).is_ok());
    assert!(AvatarUrl::parse(&(start.to_owned() + &"a".repeat(2049 - start.len()))).is_err());
}

#[test]
fn preferences_are_an_object() {
    let preferences = Preferences::parse(json!({"theme": "sombre", "taille": 1.5})).unwrap();
    assert_eq!(preferences.as_map()["theme"], "sombre");
    assert!(Preferences::parse(json!({})).is_ok());
    for refused in [json!(null), json!([]), json!("{}"), json!(1), json!(true)] {
        assert!(Preferences::parse(refused.clone()).is_err(), "{refused}");
    }
}

#[test]
fn preferences_hold_no_nul_at_any_depth() {
    for refused in [
        json!({"a": "\0"}),
        json!({"\0": 1}),
        json!({"a": [1, {"b": ["x\0y"]}]}),
        json!({"a": {"b\0": null}}),
    ] {
        assert!(Preferences::parse(refused.clone()).is_err(), "{refused}");
    }
    assert!(Preferences::parse(json!({"a": "\\0", "b": "\n"})).is_ok());
}

#[test]
fn preferences_have_at_most_16_kib() {
    // {"a":"…"}
    let frame = 8;
    let fits = "x".repeat(Preferences::MAX_BYTES - frame);
    assert!(Preferences::parse(json!({"a": fits})).is_ok());
    assert!(Preferences::parse(json!({"a": fits + "x"})).is_err());
}

#[test]
fn preferences_are_at_most_64_levels_deep() {
    let nested = |levels| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    assert!(Preferences::parse(nested(64)).is_ok());
    assert!(Preferences::parse(nested(65)).is_err());
}

#[test]
fn words_are_parsed_as_they_are_stored() {
    for sexe in [Sexe::M, Sexe::F] {
        assert_eq!(Sexe::parse(sexe.as_str()), Ok(sexe));
        assert_eq!(serde_json::to_value(sexe).unwrap(), sexe.as_str());
    }
    for user_type in [UserType::Sme, UserType::FinancialInstitution] {
        assert_eq!(UserType::parse(user_type.as_str()), Ok(user_type));
        assert_eq!(serde_json::to_value(user_type).unwrap(), user_type.as_str());
    }
    assert!(Sexe::parse("m").is_err());
    assert!(UserType::parse("sme").is_err());
}

#[test]
fn a_stored_value_is_read_whatever_it_is() {
    let stored = json!("\0 anything \n goes");
    assert!(serde_json::from_value::<Text>(stored.clone()).is_ok());
    assert!(serde_json::from_value::<Username>(stored.clone()).is_ok());
    assert!(serde_json::from_value::<Email>(stored.clone()).is_ok());
    assert!(serde_json::from_value::<AvatarUrl>(stored).is_ok());
    assert!(serde_json::from_value::<Preferences>(json!({"a": "\0"})).is_ok());
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Holder {
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    field: Patch<u8>,
}

#[test]
fn a_patch_is_absent_null_or_a_value() {
    for (field, stored) in [
        (Patch::Keep, json!({})),
        (Patch::Clear, json!({"field": null})),
        (Patch::Set(7), json!({"field": 7})),
    ] {
        let holder = Holder { field };
        assert_eq!(serde_json::to_value(&holder).unwrap(), stored);
        assert_eq!(serde_json::from_value::<Holder>(stored).unwrap(), holder);
    }
}

#[test]
fn a_kept_field_that_is_not_skipped_is_an_error_rather_than_null() {
    assert!(serde_json::to_value(Patch::<u8>::Keep).is_err());
}

#[test]
fn a_patch_changes_what_it_names() {
    for (patch, before, after) in [
        (Patch::Keep, Some(1), Some(1)),
        (Patch::Keep, None, None),
        (Patch::Clear, Some(1), None),
        (Patch::Set(2), Some(1), Some(2)),
        (Patch::Set(2), None, Some(2)),
    ] {
        let mut field = before;
        patch.apply_to(&mut field);
        assert_eq!(field, after, "{patch:?} on {before:?}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn parsing_twice_is_parsing_once(raw in any::<String>()) {
        if let Ok(text) = Text::parse(&raw) {
            prop_assert_eq!(Text::parse(text.as_str()), Ok(text));
        }
        if let Ok(url) = AvatarUrl::parse(&raw) {
            prop_assert_eq!(AvatarUrl::parse(url.as_str()), Ok(url));
        }
    }

    #[test]
    fn an_email_parses_to_itself_and_folds_once(raw in r"\PC{1,12}@\PC{1,8}(\.\PC{1,4})?") {
        if let Ok(email) = Email::parse(&raw) {
            prop_assert_eq!(Email::parse(email.as_str()), Ok(email.clone()));
            let folded: Email = serde_json::from_value(email.folded().into()).unwrap();
            prop_assert_eq!(folded.folded(), email.folded());
        }
    }

    #[test]
    fn an_avatar_parses_to_itself(raw in r" ?https?://\PC{1,20}(/\PC{0,20})?") {
        if let Ok(url) = AvatarUrl::parse(&raw) {
            prop_assert_eq!(url.as_str(), raw.trim());
            prop_assert_eq!(AvatarUrl::parse(url.as_str()), Ok(url));
        }
    }

    #[test]
    fn accepted_preferences_read_back_the_same(value in any_json()) {
        if let Ok(preferences) = Preferences::parse(value) {
            let stored = serde_json::to_string(&preferences).unwrap();
            prop_assert!(!stored.contains("\\u0000"));
            prop_assert_eq!(serde_json::from_str::<Preferences>(&stored).unwrap(), preferences);
        }
    }

    #[test]
    fn a_patch_against_the_field_changes_it_the_same_way_or_not_at_all(
        patch in prop_oneof![Just(Patch::Keep), Just(Patch::Clear), (0..3u8).prop_map(Patch::Set)],
        before in prop::option::of(0..3u8),
    ) {
        let (mut directly, mut reduced) = (before, before);
        patch.apply_to(&mut directly);
        let left = patch.against(before.as_ref());
        left.apply_to(&mut reduced);
        prop_assert_eq!(directly, reduced);
        prop_assert_eq!(left.is_keep(), before == reduced);
    }
}

#[test]
fn a_role_is_a_letter_and_at_most_63_more_signs_as_they_are() {
    let longest = format!("r{}", "9".repeat(63));
    for name in ["a", "admin", "CUSTOMER_ADMIN", "a-b_9", longest.as_str()] {
        assert_eq!(RoleName::parse(name).unwrap().as_str(), name);
    }
    for refused in
        ["", " admin", "admin ", "9a", "_a", "-a", "é", "a b", "a.b", "a/b", "a\n", &"r".repeat(65)]
    {
        assert!(RoleName::parse(refused).is_err(), "{refused:?}");
    }
    assert_eq!(RoleName::admin(), RoleName::parse("admin").unwrap());
}
