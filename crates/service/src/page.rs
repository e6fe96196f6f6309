//! Pages of a list (AIP-158), in the order of its ids: the token is where the page before ended.

use std::{
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    str::FromStr,
};

use crate::status::Violations;

/// Rows of a page that asks for none.
const DEFAULT: i64 = 50;
/// The most rows of a page.
const MAX: i64 = 1_000;

/// Rows of the page that is asked for; a negative size is a violation.
pub fn size(violations: &mut Violations, page_size: i32) -> i64 {
    if page_size < 0 {
        violations.add("page_size", "must not be negative");
    }
    match i64::from(page_size) {
        0 => DEFAULT,
        size => size.min(MAX),
    }
}

/// The id after which the page begins. A token that is none, or is another filter's, is a violation.
pub fn after<I: FromStr>(violations: &mut Violations, page_token: &str, filter: &impl Hash) -> Option<I> {
    if page_token.is_empty() {
        return None;
    }
    // An id may have a hyphen of its own.
    let parsed = page_token.rsplit_once('-').and_then(|(id, hash)| {
        let id = id.parse().ok()?;
        (hash == digest(filter)).then_some(id)
    });
    if parsed.is_none() {
        violations.add("page_token", "must be the next_page_token of a page with the same filter");
    }
    parsed
}

/// Cuts a result that was read with one row more than the page has; the token is empty on the last page.
pub fn cut<T, I: Display>(rows: &mut Vec<T>, size: i64, filter: &impl Hash, id: impl Fn(&T) -> I) -> String {
    if rows.len() as i64 <= size {
        return String::new();
    }
    rows.truncate(size as usize);
    rows.last().map(|last| format!("{}-{}", id(last), digest(filter))).unwrap_or_default()
}

/// Keeps a token from being used with another filter; not a secret.
fn digest(filter: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    filter.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_token_leads_to_the_next_page_of_its_own_filter_only() {
        let mut rows: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
        let token = cut(&mut rows, 2, &"filter", |id| *id);
        assert_eq!(rows.len(), 2);
        let mut violations = Violations::default();
        assert_eq!(after(&mut violations, &token, &"filter"), Some(Uuid::from_u128(2)));
        assert!(violations.clone().into_result().is_ok());
        for (token, filter) in [(token.as_str(), "other"), ("rubbish", "filter"), ("ü-", "filter")] {
            let mut violations = Violations::default();
            assert_eq!(after::<Uuid>(&mut violations, token, &filter), None);
            assert!(violations.into_result().is_err(), "{token}");
        }
    }

    #[test]
    fn an_id_may_be_a_text_with_hyphens() {
        let mut rows = vec!["gaming-mouse".to_owned(), "mouse-pad".to_owned()];
        let token = cut(&mut rows, 1, &"", String::clone);
        assert_eq!(after(&mut Violations::default(), &token, &""), Some("gaming-mouse".to_owned()));
    }

    #[test]
    fn the_last_page_has_no_token() {
        assert_eq!(cut(&mut vec![Uuid::nil()], 1, &"", |id| *id), "");
    }

    #[test]
    fn sizes_are_bounded() {
        let mut violations = Violations::default();
        assert_eq!([0, 1, 1_000, 5_000].map(|asked| size(&mut violations, asked)), [50, 1, 1_000, 1_000]);
        assert!(violations.clone().into_result().is_ok());
        size(&mut violations, -1);
        assert!(violations.into_result().is_err());
    }
}
