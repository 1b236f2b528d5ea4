//! Which files a row filter leaves out by the partitions in their paths alone: they are no input.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use polars::prelude::{Expr, Operator};

use crate::error::{Error, Result};
use crate::lake::scan::filter::{Filter, columns_of};
use crate::lake::scan::locate::Located;
use crate::lake::scan::schema::FROM_PATH;

/// The files in which the filter can be true: those for which each part of it (joined by AND) that reads
/// nothing but partition columns is true. What is wrong with the filter is found when the files are open.
pub fn keep(files: &[Located], text: &str) -> Result<Vec<Located>> {
    let Ok(expression) = polars::sql::sql_expr(text) else { return Ok(files.to_vec()) };
    let names: BTreeSet<&String> = files.iter().flat_map(|f| f.partitions.keys()).collect();
    let everywhere: Vec<&String> =
        names.into_iter().filter(|name| files.iter().all(|f| f.partitions.contains_key(*name))).collect();
    let mark = [(FROM_PATH.to_string(), String::new())];
    let field = |n: &&String| Field::new(n.as_str(), DataType::Utf8, true).with_metadata(mark.clone().into());
    let schema = Arc::new(Schema::new(everywhere.iter().map(field).collect::<Vec<_>>()));
    let values = |name: &&String| -> ArrayRef {
        Arc::new(files.iter().map(|f| f.partitions[*name].as_deref()).collect::<StringArray>())
    };
    if everywhere.is_empty() {
        return Ok(files.to_vec());
    }
    let batch = RecordBatch::try_new(schema.clone(), everywhere.iter().map(values).collect())
        .map_err(|e| Error::bug(e.to_string()))?;
    let mut keep = vec![true; files.len()];
    for part in conjuncts(&expression) {
        let columns = columns_of(part);
        if columns.is_empty() || !columns.iter().all(|c| everywhere.contains(&c)) {
            continue;
        }
        let Ok(filter) = Filter::of(part.clone(), text, &schema) else { continue };
        keep.iter_mut().zip(filter.mask(&batch)?).for_each(|(k, m)| *k &= m);
    }
    Ok(files.iter().zip(keep).filter(|(_, k)| *k).map(|(f, _)| f.clone()).collect())
}

/// The parts of an expression that must all be true.
fn conjuncts(expression: &Expr) -> Vec<&Expr> {
    match expression {
        Expr::BinaryExpr { left, op: Operator::And | Operator::LogicalAnd, right } => {
            [conjuncts(left), conjuncts(right)].concat()
        }
        Expr::Alias(inner, _) => conjuncts(inner),
        other => vec![other],
    }
}
