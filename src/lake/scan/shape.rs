//! What is kept of a Parquet file's footer, of however many files: its columns.

use arrow::datatypes::{DataType, Field};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::LogicalType;

use crate::lake::scan::locate::Located;
use crate::lake::scan::schema::{self, EXTENSION, FROM_PATH, UUID};
use crate::lake::table::Column;

/// What a file's footer says of its columns, which files of one writer have in common.
#[derive(Debug, PartialEq)]
pub struct Shape {
    pub fields: Vec<Field>,
    /// The columns that hold nothing but nulls.
    pub all_null: Vec<String>,
}

impl Shape {
    pub fn of(located: &Located, metadata: &ArrowReaderMetadata) -> Shape {
        if let Some(table) = &located.table {
            let field = |c: &Column| Field::new(c.field.name(), schema::as_read(c.field.data_type()), true);
            return Shape { fields: table.columns.iter().map(field).collect(), all_null: Vec::new() };
        }
        let own = metadata.schema().fields();
        let mut fields: Vec<Field> =
            own.iter().enumerate().map(|(i, f)| field_as_read(metadata, i, f)).collect();
        for name in located.partitions.keys() {
            // What stands in both is read from the file, and compared.
            if !own.iter().any(|f| f.name() == name) {
                let mark = [(FROM_PATH.to_string(), String::new())].into();
                fields.push(Field::new(name, DataType::Utf8, true).with_metadata(mark));
            }
        }
        let schema = metadata.metadata().file_metadata().schema_descr();
        let nulls_alone = |leaf: &usize| {
            metadata.metadata().row_groups().iter().all(|g| {
                let nulls = g.column(*leaf).statistics().and_then(|s| s.null_count_opt());
                nulls == Some(g.num_rows().max(0) as u64)
            })
        };
        let leaves = (0..schema.num_columns()).filter(|leaf| schema.column(*leaf).path().parts().len() == 1);
        let all_null = leaves.filter(nulls_alone).map(|leaf| schema.column(leaf).name().to_string());
        Shape { fields, all_null: all_null.collect() }
    }
}

/// The field of column `i` as it is read; a UUID is marked as one.
fn field_as_read(metadata: &ArrowReaderMetadata, i: usize, field: &Field) -> Field {
    let read = Field::new(field.name(), schema::as_read(field.data_type()), true);
    let parquet = metadata.metadata().file_metadata().schema_descr().root_schema().get_fields();
    let uuid = read.data_type() == &DataType::FixedSizeBinary(16)
        && parquet.get(i).is_some_and(|t| t.get_basic_info().logical_type_ref() == Some(&LogicalType::Uuid));
    let marks = uuid.then(|| (EXTENSION.to_string(), UUID.to_string()));
    read.with_metadata(marks.into_iter().collect())
}
