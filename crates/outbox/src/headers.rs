//! Record headers as Kafka has them: a list with an order, with duplicates, and with null values.
//!
//! They are stored as opaque bytes, because `jsonb` keeps only the last duplicate and rejects `\u0000`. The encoding,
//! repeated for each header: length of the name (u32, big endian), name (UTF-8), length of the value (i32, big endian,
//! -1 for null), value.

/// An ordered list of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Option<Vec<u8>>)>);

/// The bytes are no encoded headers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("header bytes are cut off or not UTF-8 at byte {at}")]
pub struct Malformed {
    at: usize,
}

impl Headers {
    /// Appends one header; an earlier one of the same name stays.
    pub fn push(&mut self, name: impl Into<String>, value: Option<Vec<u8>>) {
        self.0.push((name.into(), value));
    }

    /// Appends a header with a text value.
    pub fn push_text(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.push(name, Some(value.into().into_bytes()));
    }

    /// The value of the last header of that name, as Kafka's own `lastHeader` does.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }

    /// As [`Headers::get`], where the value is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every header in wire order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Names and values together, in bytes.
    pub fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum()
    }

    /// The bytes for `outbox.event.headers`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(
            self.0.iter().map(|(n, v)| 8 + n.len() + v.as_ref().map_or(0, Vec::len)).sum(),
        );
        for (name, value) in &self.0 {
            bytes.extend((name.len() as u32).to_be_bytes());
            bytes.extend(name.as_bytes());
            match value {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend((value.len() as i32).to_be_bytes());
                    bytes.extend(value);
                }
            }
        }
        bytes
    }

    /// Reads what [`Headers::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut headers = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            let name = take_length(bytes, &mut at)?
                .and_then(|length| take(bytes, &mut at, length))
                .ok_or(Malformed { at })?;
            let name = std::str::from_utf8(name).map_err(|_| Malformed { at })?;
            let value = match take_length(bytes, &mut at)? {
                None => None,
                Some(length) => Some(take(bytes, &mut at, length).ok_or(Malformed { at })?.to_vec()),
            };
            headers.push(name, value);
        }
        Ok(headers)
    }
}

impl FromIterator<(String, Option<Vec<u8>>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, Option<Vec<u8>>)>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

/// A length, or `None` for the -1 of a null value.
fn take_length(bytes: &[u8], at: &mut usize) -> Result<Option<usize>, Malformed> {
    let length = take(bytes, at, 4).and_then(|four| four.try_into().ok()).map(i32::from_be_bytes);
    match length.ok_or(Malformed { at: *at })? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Malformed { at: *at }),
    }
}

fn take<'b>(bytes: &'b [u8], at: &mut usize, length: usize) -> Option<&'b [u8]> {
    let taken = bytes.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_duplicates_nulls_and_zero_bytes_survive() {
        let mut headers = Headers::default();
        headers.push("a", Some(b"1".to_vec()));
        headers.push("b", None);
        headers.push("a", Some(b"2\0".to_vec()));
        headers.push("", Some(Vec::new()));
        assert_eq!(Headers::decode(&headers.encode()), Ok(headers.clone()));
        assert_eq!(headers.get("a"), Some(&b"2\0"[..]));
        assert_eq!(headers.get("b"), None);
    }

    #[test]
    fn every_cut_of_the_bytes_is_refused_or_shorter() {
        let mut headers = Headers::default();
        headers.push_text("name", "value");
        headers.push_text("other", "more");
        let bytes = headers.encode();
        let first = 4 + 4 + 4 + 5;
        for end in 1..bytes.len() {
            assert_eq!(Headers::decode(&bytes[..end]).is_ok(), end == first, "cut at {end}");
        }
    }

    #[test]
    fn a_negative_or_huge_length_is_refused() {
        assert!(Headers::decode(&(-2_i32).to_be_bytes()).is_err());
        assert!(Headers::decode(&i32::MAX.to_be_bytes()).is_err());
    }
}
