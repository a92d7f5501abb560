//! How domain values stand in columns.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::de::value::{Error as NameError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};

/// A value kept as JSON text. Writing checks that it reads back, because JSON turns NaN into `null` and a row that
/// cannot be read again would be worse than an error now.
pub(crate) struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned> ToSql for Json<&T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let unstorable = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
        let text = serde_json::to_string(self.0).map_err(unstorable)?;
        serde_json::from_str::<T>(&text).map_err(unstorable)?;
        Ok(ToSqlOutput::from(text))
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Json).map_err(FromSqlError::other)
    }
}

/// A state or kind, kept as its name in JSON (`soft_prompt`).
pub(crate) struct Name<T>(pub T);

impl<T: Serialize> ToSql for Name<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match serde_json::to_value(&self.0) {
            Ok(serde_json::Value::String(name)) => Ok(ToSqlOutput::from(name)),
            Ok(other) => Err(rusqlite::Error::ToSqlConversionFailure(format!("{other} is not a name").into())),
            Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error))),
        }
    }
}

impl<T: for<'de> Deserialize<'de>> FromSql for Name<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name: StrDeserializer<'_, NameError> = value.as_str()?.into_deserializer();
        T::deserialize(name).map(Name).map_err(FromSqlError::other)
    }
}

/// SQLite keeps NaN as NULL; a figure that is not finite is kept as zero where a figure must be.
pub(crate) fn finite(figure: f64) -> f64 {
    if figure.is_finite() { figure } else { 0.0 }
}
