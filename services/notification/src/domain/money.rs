//! Amounts, as a customer reads them.

use std::fmt;

use super::Invalid;

/// An amount in minor units of an ISO 4217 currency; never negative here, since customers are told what they paid or
/// get back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    currency: String,
    minor: u64,
}

impl Money {
    /// An amount of that many minor units.
    pub fn new(currency: &str, minor: i64) -> Result<Self, Invalid> {
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(Invalid("currency must be three capital letters (ISO 4217)"));
        }
        let minor = u64::try_from(minor).map_err(|_| Invalid("minor must not be negative"))?;
        Ok(Self { currency: currency.to_owned(), minor })
    }

    /// Whether there is nothing to pay or to return.
    pub const fn is_zero(&self) -> bool {
        self.minor == 0
    }
}

impl fmt::Display for Money {
    /// `EUR 49.99`, `JPY 500`, `KWD 1.250`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { currency, minor } = self;
        let digits = fraction_digits(currency);
        if digits == 0 {
            return write!(f, "{currency} {minor}");
        }
        let unit = 10_u64.pow(digits);
        write!(f, "{currency} {}.{:0width$}", minor / unit, minor % unit, width = digits as usize)
    }
}

/// Digits after the decimal point: ISO 4217 list one, "minor unit".
fn fraction_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_its_currencys_digits() -> Result<(), Invalid> {
        for (currency, minor, text) in [
            ("EUR", 4999, "EUR 49.99"),
            ("EUR", 5, "EUR 0.05"),
            ("EUR", 0, "EUR 0.00"),
            ("JPY", 500, "JPY 500"),
            ("KWD", 1250, "KWD 1.250"),
            ("USD", i64::MAX, "USD 92233720368547758.07"),
        ] {
            assert_eq!(Money::new(currency, minor)?.to_string(), text);
        }
        Ok(())
    }

    #[test]
    fn an_amount_is_a_currency_and_not_negative() {
        for (currency, minor) in [("", 1), ("eur", 1), ("EURO", 1), ("EU€", 1), ("EUR", -1)] {
            assert!(Money::new(currency, minor).is_err(), "{currency} {minor}");
        }
    }
}
