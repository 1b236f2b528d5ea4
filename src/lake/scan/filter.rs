//! `target.where`: a SQL expression over an account's columns, evaluated by polars.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use polars::prelude::{DataFrame, Expr, IntoLazy};

use crate::error::{Error, Result};
use crate::lake::bridge::to_polars;
use crate::lake::scan::coerce::coerce;

/// A row filter and the columns that it reads.
#[derive(Debug, Clone)]
pub struct Filter {
    expression: Expr,
    text: String,
    columns: Vec<String>,
}

impl Filter {
    /// Parses the expression; what it names must be in `schema`, it may look at one row at a time only, and
    /// its comparisons must make sense over the columns' types. Refused: 78.
    pub fn parse(text: &str, schema: &Schema) -> Result<Filter> {
        let expression = polars::sql::sql_expr(text)
            .map_err(|e| refusal(text, format!("not an SQL expression: {}", first_line(&e.to_string()))))?;
        Filter::of(expression, text, schema)
    }

    /// As [`Filter::parse`], of an expression that is a part of `text`.
    pub fn of(expression: Expr, text: &str, schema: &Schema) -> Result<Filter> {
        // A cast that polars means to rename one day is no news for who reads the log.
        polars::error::set_warning_function(|_, _| {});
        let refuse = |why: String| refusal(text, why);
        // An aggregate of literals alone, as in IN ('a', 'b'), is the same for every row.
        let over_rows = |e: &Expr| match e {
            Expr::Agg(_) => !e.clone().meta().root_names().is_empty(),
            other => matches!(other, Expr::Len | Expr::Over { .. }),
        };
        if expression.into_iter().any(over_rows) {
            return Err(refuse("a row filter cannot aggregate over rows".to_string()));
        }
        let columns = columns_of(&expression);
        let mut fields = Vec::new();
        for name in &columns {
            match schema.field_with_name(name) {
                Ok(field) => fields.push(field.clone().with_nullable(true)),
                Err(_) => return Err(refuse(format!("the accounts have no column {name:?}"))),
            }
        }
        let schema = Schema::new(fields);
        let expression = coerce(expression, &schema).map_err(refuse)?;
        let filter = Filter { expression, text: text.to_string(), columns };
        filter.try_on_nulls(schema)?;
        Ok(filter)
    }

    /// One row of nulls finds out whether the expression can be evaluated at all.
    fn try_on_nulls(&self, schema: Schema) -> Result<()> {
        let arrays: Vec<ArrayRef> =
            schema.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
            .map_err(|e| Error::bug(e.to_string()))?;
        self.mask(&batch).map(|_| ())
    }

    /// Names of the columns that [`mask`](Filter::mask) needs.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// For each row whether the expression is true (null is not true).
    pub fn mask(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        let refuse = |e: String| {
            let why = first_line(&e).trim_end_matches(':').to_string();
            let types =
                self.columns.iter().filter_map(|c| batch.schema().field_with_name(c).ok().map(describe));
            refusal(&self.text, format!("the row filter cannot be evaluated: {why}"))
                .with("columns", types.collect::<Vec<_>>().join(", "))
                .hint("write text as 'x', numbers as 7, dates as DATE '2026-06-01', or CAST(column AS type)")
        };
        let mut series = Vec::with_capacity(self.columns.len());
        for name in &self.columns {
            let array = batch
                .column_by_name(name)
                .ok_or_else(|| Error::bug("a filter column was not read").column(name))?;
            let array = plain(array).map_err(&refuse)?;
            series.push(to_polars(name, &array).map_err(&refuse)?.into());
        }
        let frame = DataFrame::new(batch.num_rows(), series).map_err(|e| refuse(e.to_string()))?;
        let kept =
            frame.lazy().select([self.expression.clone()]).collect().map_err(|e| refuse(e.to_string()))?;
        let column = kept.columns().first().ok_or_else(|| refuse("it yields no column".to_string()))?;
        let mask =
            column.bool().map_err(|_| refuse(format!("it yields {}, not true or false", column.dtype())))?;
        match (mask.len(), batch.num_rows()) {
            (a, b) if a == b => Ok(mask.iter().map(|v| v == Some(true)).collect()),
            (1, rows) => Ok(vec![mask.get(0) == Some(true); rows]),
            (found, rows) => Err(refuse(format!("it yields {found} values for {rows} rows"))),
        }
    }
}

fn refusal(text: &str, why: String) -> Error {
    Error::config(why).with("key", "target.where").value(text)
}

/// A plan that polars prints behind its reason helps nobody.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}

fn describe(field: &Field) -> String {
    let what = match field.data_type() {
        DataType::Utf8 | DataType::Dictionary(..) => "text",
        DataType::Boolean => "true or false",
        DataType::Date32 | DataType::Date64 => "a date",
        DataType::Timestamp(..) => "a timestamp",
        t if t.is_numeric() => "a number",
        t => return format!("{} is {t}", field.name()),
    };
    format!("{} is {what}", field.name())
}

/// The columns that an expression reads, each once.
pub fn columns_of(expression: &Expr) -> Vec<String> {
    let mut columns: Vec<String> =
        expression.clone().meta().root_names().iter().map(|n| n.to_string()).collect();
    columns.sort();
    columns.dedup();
    columns
}

/// An array as a filter reads it: one kind of text, of date, of timestamp (UTC) and of fractional number.
fn plain(array: &ArrayRef) -> std::result::Result<ArrayRef, String> {
    use DataType as D;
    let to = match array.data_type() {
        D::Dictionary(..) | D::LargeUtf8 | D::Utf8View => D::Utf8,
        D::Date64 => D::Date32,
        D::Timestamp(TimeUnit::Microsecond, None) => return Ok(array.clone()),
        D::Timestamp(..) => D::Timestamp(TimeUnit::Microsecond, None),
        D::Float16 => D::Float32,
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => D::Float64,
        D::Null => D::Boolean,
        _ => return Ok(array.clone()),
    };
    cast(array, &to).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};

    use super::*;

    fn batch() -> RecordBatch {
        let age: ArrayRef = Arc::new(Int32Array::from(vec![Some(17), Some(30), None]));
        let country: ArrayRef = Arc::new(StringArray::from(vec!["de", "fr", "fr"]));
        let amount: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]));
        RecordBatch::try_from_iter([("age", age), ("country", country), ("amount", amount)]).unwrap()
    }

    #[test]
    fn rows_are_kept_where_the_expression_is_true_and_not_where_it_is_null() {
        let batch = batch();
        let cases = [
            ("age > 18", [false, true, false]),
            ("country = 'fr' AND amount < 3", [false, true, false]),
            ("age IS NULL OR country IN ('de')", [true, false, true]),
            ("1 = 1", [true, true, true]),
        ];
        for (text, wanted) in cases {
            let filter = Filter::parse(text, &batch.schema()).unwrap();
            assert_eq!(filter.mask(&batch).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_row_filter_is_refused() {
        let batch = batch();
        for text in ["agee > 1", "age >", "MAX(amount) > 2", "SELECT 1"] {
            assert!(Filter::parse(text, &batch.schema()).is_err(), "{text}");
        }
        assert!(Filter::parse("amount + 1", &batch.schema()).is_err());
    }
}
