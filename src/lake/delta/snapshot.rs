//! A version of a Delta table: its columns, and the files that hold its rows.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use delta_kernel::actions::deletion_vector::{DeletionVectorDescriptor, DeletionVectorStorageType};
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::history_manager::{HistoryCommitType, latest_version_as_of};
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::table_features::ColumnMappingMode;
use delta_kernel::{Engine, KernelError};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lake::delta::engine::{LogEngine, outward, url};
use crate::lake::input;
use crate::lake::location::{FileId, Location, unescape};
use crate::lake::table::{Column, InTable, Pin, TableFile, TableRead};

/// An open version of a table.
pub struct Table {
    pub root: Location,
    pub snapshot: SnapshotRef,
    engine: LogEngine,
}

/// A file of the table, as the log has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// Percent-encoded, relative to the table or a URL.
    pub path: String,
    pub size: i64,
    /// As the log has it; a remove action repeats it.
    pub deletion_vector: Option<Value>,
    #[serde(rename = "fileConstantValues")]
    constants: Constants,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Constants {
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    storage_type: String,
    path_or_inline_dv: String,
    offset: Option<i32>,
    size_in_bytes: i32,
    cardinality: i64,
}

impl Active {
    /// Values of the partition columns, by their names in the files.
    pub fn partitions(&self) -> &BTreeMap<String, Option<String>> {
        &self.constants.partition_values
    }

    /// The key of the file below the table's root, or where it lies outside.
    pub fn place(&self, root: &Location) -> Result<Location> {
        match self.path.contains("://") {
            true => Location::parse(&unescape(&self.path), std::path::Path::new("/")),
            false if self.path.starts_with("file:/") => {
                Ok(Location::Path(unescape(&self.path["file:".len()..]).into()))
            }
            false => Ok(root.join(&unescape(&self.path))),
        }
    }
}

impl Table {
    /// The version that is pinned, or the newest; none where no table is.
    pub fn open(root: &Location, pin: &Pin) -> Result<Option<Table>> {
        let engine = LogEngine::default();
        let kernel = |e: KernelError| outward(e, root);
        let build = |version: Option<u64>| {
            let builder = Snapshot::builder_for(url(root)?.as_str());
            let builder = match version {
                Some(version) => builder.at_version(version),
                None => builder,
            };
            builder.build(&engine).map_err(kernel)
        };
        // a writer that was killed before its first commit leaves a file whose name is hidden
        let of_log = |(name, _): &(String, FileId)| name.starts_with(|c: char| c.is_ascii_digit());
        if !pin.is_set() && !input::list(&root.join("_delta_log"), None)?.iter().any(of_log) {
            return Ok(None);
        }
        let newest = match (pin.version, &pin.as_of) {
            (Some(version), _) => build(Some(version)),
            (None, None) => build(None),
            (None, Some(time)) => {
                let newest = build(None)?;
                let at = latest_version_as_of(
                    &newest,
                    &engine,
                    time.timestamp_millis(),
                    HistoryCommitType::Recreatable,
                );
                let at = at.map_err(|e| kernel(e).with("as_of", time.to_rfc3339()))?;
                build(Some(at.version))
            }
        };
        newest.map(|snapshot| Some(Table { root: root.clone(), snapshot, engine }))
    }

    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    pub fn id(&self) -> String {
        self.snapshot.table_configuration().metadata().id().to_string()
    }

    /// The names of the partition columns.
    pub fn partition_columns(&self) -> &[String] {
        self.snapshot.table_configuration().logical_partition_columns()
    }

    /// The columns that readers see, as arrow has them.
    pub fn schema(&self) -> Result<Schema> {
        self.snapshot.schema().as_ref().try_into_arrow().map_err(|e: arrow::error::ArrowError| {
            Error::data(format!("the table's columns cannot be read: {e}")).file(self.root.shown())
        })
    }

    /// The version that an application's last transaction left, by its id.
    pub fn transaction(&self, application: &str) -> Result<Option<i64>> {
        self.snapshot.get_app_id_version(application, &self.engine).map_err(|e| outward(e, &self.root))
    }

    /// The files of this version, in the order of their paths. A table with a feature that cannot be applied is
    /// refused by the feature's name (65).
    pub fn active(&self) -> Result<Vec<Active>> {
        let kernel = |e: KernelError| outward(e, &self.root);
        let damaged =
            |e: String| Error::data(format!("the table's log is damaged: {e}")).file(self.root.shown());
        let scan = self.snapshot.clone().scan_builder().build().map_err(kernel)?;
        let mut found = Vec::new();
        for data in scan.scan_metadata(&self.engine).map_err(kernel)? {
            let files = data.map_err(kernel)?.scan_files.apply_selection_vector().map_err(kernel)?;
            let batch: RecordBatch = (*ArrowEngineData::try_from_engine_data(files).map_err(kernel)?).into();
            let mut text = arrow::json::LineDelimitedWriter::new(Vec::new());
            text.write(&batch).and_then(|()| text.finish()).map_err(|e| damaged(e.to_string()))?;
            for line in text.into_inner().split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                found.push(serde_json::from_slice::<Active>(line).map_err(|e| damaged(e.to_string()))?);
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Rows of a file, by their place in it, that the table has deleted; sorted.
    fn deleted(&self, file: &Active) -> Result<Vec<u64>> {
        let Some(vector) = &file.deletion_vector else { return Ok(Vec::new()) };
        let refuse = |e: String| {
            Error::data(format!("a deletion vector cannot be read: {e}"))
                .file(self.root.shown())
                .value(&file.path)
        };
        let v: Vector = serde_json::from_value(vector.clone()).map_err(|e| refuse(e.to_string()))?;
        let kind = DeletionVectorStorageType::from_str(&v.storage_type).map_err(|e| refuse(e.to_string()))?;
        let storage = self.engine.storage_handler();
        let root = url(&self.root)?;
        DeletionVectorDescriptor::try_new(kind, v.path_or_inline_dv, v.offset, v.size_in_bytes, v.cardinality)
            .and_then(|descriptor| descriptor.row_indexes(storage, &root))
            .map_err(|e| refuse(e.to_string()))
    }

    /// Everything that a reader of this version needs.
    pub fn read(&self) -> Result<Vec<TableFile>> {
        let schema = self.schema()?;
        let settings = self.snapshot.table_configuration();
        let mode = settings.column_mapping_mode();
        let partitions = self.partition_columns();
        let mut columns = Vec::new();
        for (field, kernel) in schema.fields().iter().zip(self.snapshot.schema().fields()) {
            columns.push(Column {
                field: Field::new(field.name(), field.data_type().clone(), true),
                physical: physical_name(kernel, mode),
                field_id: match mode {
                    ColumnMappingMode::Id => kernel.column_mapping_id().and_then(|id| i32::try_from(id).ok()),
                    _ => None,
                },
                partition: partitions.contains(field.name()),
            });
        }
        let (columns, version) = (Arc::new(columns), Arc::new(self.table_read()));
        let mut files = Vec::new();
        for file in self.active()? {
            let of =
                |c: &Column| (c.field.name().clone(), file.partitions().get(&c.physical).cloned().flatten());
            files.push(TableFile {
                place: file.place(&self.root)?,
                partitions: columns.iter().filter(|c| c.partition).map(of).collect(),
                table: InTable {
                    columns: columns.clone(),
                    version: version.clone(),
                    bytes: file.size.max(0) as u64,
                    deleted: self.deleted(&file)?.into(),
                },
            });
        }
        Ok(files)
    }

    fn table_read(&self) -> TableRead {
        TableRead { format: "delta".to_string(), table: self.id(), version: self.version().to_string() }
    }
}

fn physical_name(field: &delta_kernel::schema::StructField, mode: ColumnMappingMode) -> String {
    use delta_kernel::schema::{ColumnMetadataKey, MetadataValue};
    match (mode, field.get_config_value(&ColumnMetadataKey::ColumnMappingPhysicalName)) {
        (ColumnMappingMode::None, _) | (_, None) => field.name().clone(),
        (_, Some(MetadataValue::String(name))) => name.clone(),
        (_, Some(_)) => field.name().clone(),
    }
}
