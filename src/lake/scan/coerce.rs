//! Comparisons of a row filter between a column and a literal of another kind: `d < '2026-06-01'` over dates,
//! `month = 9` where the month stands in the path, `age > '18'` over integers.
//!
//! SQL gives a literal the type of the column that it is compared with; polars does not. What has no such
//! reading is refused with the literal as it is to be written.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use polars::prelude as pl;
use polars::prelude::{AggExpr, Expr, LiteralValue, Operator};

use crate::lake::scan::schema::FROM_PATH;

/// What a column holds, as far as comparisons go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Text; whether it stands in the files' paths, where everything is text.
    Text {
        in_path: bool,
    },
    Integer,
    Number,
    Date,
    Timestamp,
    Other,
}

fn holds(schema: &Schema, column: &str) -> Holds {
    let Ok(field) = schema.field_with_name(column) else { return Holds::Other };
    match field.data_type() {
        DataType::Utf8 | DataType::Dictionary(..) => {
            Holds::Text { in_path: field.metadata().contains_key(FROM_PATH) }
        }
        t if t.is_integer() => Holds::Integer,
        t if t.is_numeric() => Holds::Number,
        DataType::Date32 | DataType::Date64 => Holds::Date,
        DataType::Timestamp(..) => Holds::Timestamp,
        _ => Holds::Other,
    }
}

/// The expression with every comparison between a column of `schema` and literals made one of equal types.
/// The error says what to write.
pub fn coerce(expression: Expr, schema: &Schema) -> Result<Expr, String> {
    let mut refused = None;
    let made = expression.try_map_expr(|e| {
        Ok(match e {
            Expr::BinaryExpr { left, op, right } if compares(op) => {
                let mut sides = [left.as_ref().clone(), right.as_ref().clone()];
                compare(&mut sides, schema, &mut refused);
                let [left, right] = sides;
                Expr::BinaryExpr { left: left.into(), op, right: right.into() }
            }
            Expr::Function { mut input, function }
                if ["is_in", "is_between"].contains(&function.to_string().as_str()) =>
            {
                compare(&mut input, schema, &mut refused);
                Expr::Function { input, function }
            }
            other => other,
        })
    });
    match (refused, made) {
        (Some(why), _) => Err(why),
        (None, made) => made.map_err(|e| e.to_string()),
    }
}

fn compares(op: Operator) -> bool {
    use Operator as O;
    matches!(op, O::Eq | O::EqValidity | O::NotEq | O::NotEqValidity | O::Lt | O::LtEq | O::Gt | O::GtEq)
}

/// Brings the operands of one comparison to one type, if a column and literals of another kind are among them.
fn compare(operands: &mut [Expr], schema: &Schema, refused: &mut Option<String>) {
    let Some((place, name)) = operands.iter().enumerate().find_map(|(i, e)| match e {
        Expr::Column(name) => Some((i, name.to_string())),
        _ => None,
    }) else {
        return;
    };
    let column = holds(schema, &name);
    let literals: Vec<usize> =
        (0..operands.len()).filter(|i| *i != place && literal_type(&operands[*i]).is_some()).collect();
    for i in literals {
        let Some(given) = literal_type(&operands[i]) else { continue };
        let text = matches!(given, pl::DataType::String | pl::DataType::Unknown(pl::UnknownKind::Str));
        let temporal = matches!(given, pl::DataType::Date | pl::DataType::Datetime(..));
        let number = given.is_numeric() || matches!(given, pl::DataType::Unknown(_)) && !text;
        let timestamp = pl::DataType::Datetime(pl::TimeUnit::Microseconds, None);
        match column {
            Holds::Integer if text => {
                let to = integer_or_float(&operands[i].to_string());
                cast(&mut operands[i], to);
            }
            Holds::Number if text => cast(&mut operands[i], pl::DataType::Float64),
            Holds::Date if text => cast(&mut operands[i], pl::DataType::Date),
            Holds::Timestamp if text => {
                match instant(&operands[i].to_string()) {
                    Some(microseconds) => operands[i] = pl::lit(microseconds),
                    // A day alone is its first instant.
                    None if !operands[i].to_string().contains(':') => {
                        cast(&mut operands[i], pl::DataType::Date);
                    }
                    None => {}
                }
                cast(&mut operands[i], timestamp);
            }
            Holds::Text { in_path: true } if number => {
                let whole =
                    given.is_integer() || matches!(given, pl::DataType::Unknown(pl::UnknownKind::Int(_)));
                cast(&mut operands[place], if whole { pl::DataType::Int64 } else { pl::DataType::Float64 });
                return;
            }
            Holds::Text { in_path: true } if temporal => {
                cast(&mut operands[place], given);
                return;
            }
            Holds::Text { .. } if number || temporal => {
                refused.get_or_insert(format!(
                    "{name} is text: write the values that it is compared with as text, {name} = '...'"
                ));
            }
            _ => {}
        }
    }
}

/// Microseconds since 1970 of a day and a time of day, as SQL writes them or as ISO 8601 does.
fn instant(literal: &str) -> Option<i64> {
    let text = literal.trim_matches('"').trim_end_matches('Z').replacen('T', " ", 1);
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(&text, form).ok())
        .map(|at| at.and_utc().timestamp_micros())
}

/// The type of a literal, or of a list of them; none where the expression is none.
fn literal_type(e: &Expr) -> Option<pl::DataType> {
    match e {
        Expr::Literal(LiteralValue::Series(s)) => {
            Some(s.dtype().inner_dtype().cloned().unwrap_or_else(|| s.dtype().clone()))
        }
        Expr::Literal(value) => Some(value.get_datatype()),
        Expr::Agg(AggExpr::Implode { input, .. }) => literal_type(input),
        // DATE '2026-06-01'
        Expr::Cast { expr, dtype, .. } if matches!(expr.as_ref(), Expr::Literal(_)) => {
            dtype.as_literal().cloned()
        }
        _ => None,
    }
}

fn cast(e: &mut Expr, to: pl::DataType) {
    let made = match std::mem::replace(e, pl::lit(false)) {
        Expr::Agg(AggExpr::Implode { input, maintain_order }) => {
            let input = Arc::unwrap_or_clone(input).strict_cast(to);
            Expr::Agg(AggExpr::Implode { input: input.into(), maintain_order })
        }
        other => other.strict_cast(to),
    };
    *e = made;
}

/// An integer column is compared with `'7'` as an integer and with `'7.5'` as a float.
fn integer_or_float(literal: &str) -> pl::DataType {
    if literal.contains('.') { pl::DataType::Float64 } else { pl::DataType::Int64 }
}
