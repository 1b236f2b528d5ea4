//! `target.where`: a SQL expression over an account's columns, evaluated by polars.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use polars::prelude::{DataFrame, Expr, IntoLazy};

use crate::error::{Error, Result};
use crate::lake::bridge::to_polars;

/// A row filter and the columns that it reads.
#[derive(Debug, Clone)]
pub struct Filter {
    expression: Expr,
    text: String,
    columns: Vec<String>,
}

impl Filter {
    /// Parses the expression; what it names must be in `schema`, and it may look at one row at a time only.
    /// Refused: 78.
    pub fn parse(text: &str, schema: &Schema) -> Result<Filter> {
        let refuse = |why: String| Error::config(why).with("key", "target.where").value(text);
        let expression =
            polars::sql::sql_expr(text).map_err(|e| refuse(format!("not an SQL expression: {e}")))?;
        // An aggregate of literals alone, as in IN ('a', 'b'), is the same for every row.
        let over_rows = |e: &Expr| match e {
            Expr::Agg(_) => !e.clone().meta().root_names().is_empty(),
            other => matches!(other, Expr::Len | Expr::Over { .. }),
        };
        if expression.into_iter().any(over_rows) {
            return Err(refuse("a row filter cannot aggregate over rows".to_string()));
        }
        let mut columns: Vec<String> =
            expression.clone().meta().root_names().iter().map(|n| n.to_string()).collect();
        columns.sort();
        columns.dedup();
        for name in &columns {
            if schema.field_with_name(name).is_err() {
                return Err(refuse(format!("the accounts have no column {name:?}")));
            }
        }
        Ok(Filter { expression, text: text.to_string(), columns })
    }

    /// Names of the columns that [`mask`](Filter::mask) needs.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// For each row whether the expression is true (null is not true).
    pub fn mask(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        let refuse = |e: String| {
            Error::config(format!("the row filter cannot be evaluated: {e}"))
                .with("key", "target.where")
                .value(&self.text)
        };
        let mut series = Vec::with_capacity(self.columns.len());
        for name in &self.columns {
            let array = batch
                .column_by_name(name)
                .ok_or_else(|| Error::bug("a filter column was not read").column(name))?;
            series.push(to_polars(name, array).map_err(refuse)?.into());
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
        let number = Filter::parse("amount + 1", &batch.schema()).unwrap();
        assert!(number.mask(&batch).is_err());
    }
}
