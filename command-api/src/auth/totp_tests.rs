use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use event_store::FixedClock;

use super::*;

const ENROLMENT: Uuid = Uuid::from_u128(7);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn factors(seconds: i64) -> SecondFactors {
    SecondFactors::new([1; 32], Arc::new(FixedClock::at(at(seconds))))
}

/// Appendix B of RFC 6238, for SHA-1: its codes have 8 digits, of which ours are the last 6.
#[test]
fn codes_are_those_of_rfc_6238() {
    const SECRET: &[u8] = b"12345678901234567890";
    for (time, code) in [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_111_111_111, "14050471"),
        (1_234_567_890, "89005924"),
        (2_000_000_000, "69279037"),
        (20_000_000_000, "65353130"),
    ] {
        let app = factors(0).app(ENROLMENT).with_secret(SECRET);
        assert_eq!(app.clone().with_digits(8).build().unwrap().generate(time).to_string(), code);
        let totp = app.build().unwrap();
        assert_eq!(totp.generate(time).to_string(), code[2..]);
        assert_eq!(totp.check(&code[2..], time), Some(time / 30));
    }
}

#[test]
fn a_code_may_be_a_step_early_or_late_and_no_more() {
    const NOW: i64 = 1_700_000_010;
    let code = factors(NOW).codes(ENROLMENT).generate(NOW.unsigned_abs()).to_string();
    let step = NOW.unsigned_abs() / 30;
    for (seconds, found) in [(-60, None), (-30, Some(step)), (0, Some(step)), (30, Some(step)), (60, None)] {
        assert_eq!(factors(NOW + seconds).step(ENROLMENT, &code), found, "{seconds}");
    }
}

#[test]
fn a_clock_that_goes_on_asks_for_other_codes() {
    let clock = Arc::new(FixedClock::at(at(1_700_000_000)));
    let factors = SecondFactors::new([1; 32], clock.clone());
    let code = factors.codes(ENROLMENT).generate(1_700_000_000).to_string();
    assert!(factors.factor(ENROLMENT, &code).is_some());
    clock.advance(Duration::from_mins(2));
    assert!(factors.factor(ENROLMENT, &code).is_none());
}

#[test]
fn codes_are_read_with_and_without_what_makes_them_easier_to_read() {
    let factors = factors(1_700_000_000);
    let totp = factors.codes(ENROLMENT).generate(1_700_000_000).to_string();
    let step = Some(Factor { enrolment: ENROLMENT, code: Code::Step(1_700_000_000 / 30) });
    for code in
        [totp.clone(), format!(" {} {} ", &totp[..3], &totp[3..]), format!("{}-{}", &totp[..3], &totp[3..])]
    {
        assert_eq!(factors.factor(ENROLMENT, &code), step, "{code}");
    }
    for (which, code) in (0..).zip(factors.recovery_codes(ENROLMENT)) {
        let recovery = Some(Factor { enrolment: ENROLMENT, code: Code::Recovery(which) });
        for code in [code.clone(), code.to_lowercase(), code.replace('-', ""), code.replace('-', " ")] {
            assert_eq!(factors.factor(ENROLMENT, &code), recovery, "{code}");
        }
    }
}

#[test]
fn recovery_codes_are_ten_of_80_bits_in_groups_of_four() {
    let codes = factors(0).recovery_codes(ENROLMENT);
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), 10);
    for code in codes {
        let groups: Vec<&str> = code.split('-').collect();
        assert_eq!(groups.iter().map(|it| it.len()).collect::<Vec<_>>(), [4; 4], "{code}");
        assert!(groups.concat().bytes().all(|it| matches!(it, b'A'..=b'Z' | b'2'..=b'7')), "{code}");
    }
}

#[test]
fn what_is_no_code_of_this_enrolment_under_this_key_is_none() {
    let factors = factors(1_700_000_000);
    let other_key = SecondFactors::new([2; 32], factors.clock.clone());
    let other = Uuid::from_u128(8);
    let code = factors.recovery_codes(ENROLMENT).remove(0);
    let bare = code.replace('-', "");
    for wrong in [
        "",
        "-",
        "12345",
        "1234567",
        "+12345",
        "１２３４５６",
        "AAAA-AAAA-AAAA-AAAA",
        &code[..18],
        &bare[..2],
    ] {
        assert_eq!(factors.factor(ENROLMENT, wrong), None, "{wrong}");
    }
    assert_eq!(factors.factor(ENROLMENT, &format!("{code}A")), None);
    assert_eq!(factors.factor(ENROLMENT, &format!("{code}{code}")), None);
    let totp = factors.codes(ENROLMENT).generate(1_700_000_000).to_string();
    for code in [&code, &totp] {
        assert!(factors.factor(ENROLMENT, code).is_some());
        assert_eq!(factors.factor(other, code), None);
        assert_eq!(other_key.factor(ENROLMENT, code), None);
    }
}

#[test]
fn an_app_is_told_the_issuer_the_account_and_the_secret() {
    let offer = factors(0).offer(ENROLMENT, "a:b@example.cd").unwrap();
    assert_eq!(offer.secret.len(), 32);
    let expected =
        format!("otpauth://totp/annuaire:a-b%40example.cd?secret={}&issuer=annuaire", offer.secret);
    assert_eq!(offer.url, expected);
    assert_eq!(format!("{:?}", factors(0)), "***");
}
