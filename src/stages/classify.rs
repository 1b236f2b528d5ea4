//! Step 6 of 6: a class for every account.
//!
//! In: the accounts and the student, or, where the student fell short of its gate, the soft labels. Out: the table
//! `classification`, partitioned below its date as the pipeline says, and `summary.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::fit::Fit;
use super::part_name;
use super::profile::StudentFeature;
use super::relevance::target_profile;
use super::score::{Scored, student_columns};
use crate::error::{Error, Result};
use crate::lake::accounts::{Accounts, Unit};
use crate::lake::column::NonFinite;
use crate::lake::locate::escape;
use crate::lake::part::{self, Part, Use};
use crate::relevance::simplex::first_largest;
use crate::run::directory::write_json;
use crate::run::job::Run;
use crate::student::Student;
use crate::teacher::encode::Block;
use crate::teacher::{bundle, read_student};

/// The stage's summary.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    pub rows: u64,
    /// Accounts of each class.
    pub classes: BTreeMap<String, u64>,
}

/// Runs the step.
pub fn run(run: &Run) -> Result<()> {
    let fit = Fit::load(run)?;
    let profile = target_profile(run, &Scored::load(run)?)?;
    let accounts = profile.accounts(run);
    let bytes = bundle::read_limited(&run.directory.stage("fit").join("student").join("model.json"))?;
    let student = read_student(&bytes)?;
    let writer = Writer::new(run, &fit)?;
    let bar = run.log.progress("classify", accounts.stored_rows());
    let one = |unit: &Unit| -> Result<Vec<u64>> {
        let mut parts = Parts { writer: &writer, unit: unit.index, open: BTreeMap::new(), counts: vec![0; writer.classes.len()] };
        if fit.passed {
            by_student(run, &accounts, unit, student.as_ref(), &profile.student, &mut parts, &bar)?;
        } else {
            by_soft_label(run, unit, &mut parts)?;
        }
        parts.finish()
    };
    let counts: Vec<Vec<u64>> = accounts.units().par_iter().with_max_len(1).map(one).collect::<Result<_>>()?;
    bar.finish_and_clear();
    let mut summary = Summary::default();
    for (c, class) in writer.classes.iter().enumerate() {
        let rows = counts.iter().map(|of_unit| of_unit[c]).sum();
        summary.classes.insert(class.clone(), rows);
        summary.rows += rows;
    }
    write_json(&run.directory.stage("classify").join("summary.json"), &summary)
}

fn by_student(
    run: &Run,
    accounts: &Accounts,
    unit: &Unit,
    student: &dyn Student,
    spec: &[StudentFeature],
    parts: &mut Parts,
    bar: &indicatif::ProgressBar,
) -> Result<()> {
    let columns: Vec<String> = [run.pipeline.target.id.clone()].into_iter().chain(run.inputs.present()).collect();
    let mut odd = vec![NonFinite::default(); run.inputs.features.len()];
    accounts.read(unit, &columns, |batch, _| {
        let block = Block::decode(&batch, &run.inputs.features, &mut odd)?;
        let columns = student_columns(spec, &run.inputs.features, &block)?;
        let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
        let mut p = vec![0.0; block.rows * parts.writer.classes.len()];
        student.predict(&columns, &mut p);
        bar.inc(block.rows as u64);
        parts.write(batch.column(0).clone(), &p)
    })
}

fn by_soft_label(run: &Run, unit: &Unit, parts: &mut Parts) -> Result<()> {
    let path = run.directory.stage("fuse").join("soft_labels").join(part_name(unit.index, Some(run.id())));
    part::read(&path, |batch| {
        let columns = run.pipeline.classes.iter().map(|c| part::floats(&batch, &format!("p_{c}"))).collect::<Result<Vec<_>>>()?;
        let p: Vec<f64> = (0..batch.num_rows()).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
        parts.write(batch.column(0).clone(), &p)
    })
}

/// What all units share.
struct Writer<'a> {
    folder: PathBuf,
    run_id: &'a str,
    classes: &'a [String],
    partition_by: &'a [String],
    /// All columns, those of the path included.
    schema: SchemaRef,
    /// `student:<family>`, or `fused` where the soft label decided.
    decided_by: String,
}

impl<'a> Writer<'a> {
    fn new(run: &'a Run, fit: &Fit) -> Result<Writer<'a>> {
        let id = run.inputs.accounts.field(&run.pipeline.target.id)?;
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let mut fields = vec![part::id_field(id.name(), id.data_type()), text("class"), part::float_field("confidence")];
        fields.extend(run.pipeline.classes.iter().map(|c| part::float_field(format!("p_{c}"))));
        fields.extend([text("decision"), Field::new("reason", DataType::Utf8, true), text("student"), text("run_id")]);
        Ok(Writer {
            folder: run.directory.stage("classify").join("classification"),
            run_id: run.id(),
            classes: &run.pipeline.classes,
            partition_by: &run.pipeline.output.partition_by,
            schema: part::schema(fields),
            decided_by: if fit.passed { format!("student:{}", fit.family) } else { "fused".to_string() },
        })
    }

    fn batch(&self, id: ArrayRef, p: &[f64], class: &[usize]) -> Result<RecordBatch> {
        let (rows, classes) = (class.len(), self.classes.len());
        let text = |value: &str| Arc::new(StringArray::from(vec![value; rows])) as ArrayRef;
        let names: StringArray = class.iter().map(|c| Some(self.classes[*c].as_str())).collect();
        let confidence = class.iter().enumerate().map(|(i, c)| p[i * classes + c]).collect();
        let mut columns = vec![id, Arc::new(names) as ArrayRef, part::float_array(confidence)];
        columns.extend((0..classes).map(|c| part::float_array(p.iter().skip(c).step_by(classes).copied().collect())));
        let no_reason = Arc::new(StringArray::from(vec![None::<&str>; rows])) as ArrayRef;
        columns.extend([text("classified"), no_reason, text(&self.decided_by), text(self.run_id)]);
        part::batch(&self.schema, columns)
    }

    /// The columns that stay in the files.
    fn kept(&self) -> Vec<usize> {
        (0..self.schema.fields().len()).filter(|i| !self.partition_by.contains(self.schema.field(*i).name())).collect()
    }
}

/// The files of one unit: one for each partition that has an account.
struct Parts<'a> {
    writer: &'a Writer<'a>,
    unit: usize,
    open: BTreeMap<String, Part>,
    counts: Vec<u64>,
}

impl Parts<'_> {
    /// Classifies accounts by their probabilities `[n, C]`; of equal ones the class that stands first.
    fn write(&mut self, id: ArrayRef, p: &[f64]) -> Result<()> {
        let writer = self.writer;
        let class: Vec<usize> = p.chunks_exact(writer.classes.len()).map(first_largest).collect();
        if !p.iter().all(|p| p.is_finite()) {
            return Err(Error::bug("the student gave a probability that is not finite"));
        }
        class.iter().for_each(|c| self.counts[*c] += 1);
        let batch = writer.batch(id, p, &class)?;
        if !writer.partition_by.iter().any(|k| k == "class") {
            return self.append(&self.place(None), &batch);
        }
        for (c, name) in writer.classes.iter().enumerate().filter(|(c, _)| class.contains(c)) {
            let mask: BooleanArray = class.iter().map(|k| Some(*k == c)).collect();
            let rows = filter_record_batch(&batch, &mask).map_err(|e| Error::bug(e.to_string()))?;
            self.append(&self.place(Some(name)), &rows)?;
        }
        Ok(())
    }

    /// Directory below `ds=`, by hive's rule.
    fn place(&self, class: Option<&str>) -> String {
        let value = |key: &String| if key == "class" { class.unwrap_or_default().to_string() } else { "classified".to_string() };
        self.writer.partition_by.iter().map(|key| format!("{key}={}/", escape(&value(key)))).collect()
    }

    fn append(&mut self, place: &str, batch: &RecordBatch) -> Result<()> {
        let kept = batch.project(&self.writer.kept()).map_err(|e| Error::bug(e.to_string()))?;
        if !self.open.contains_key(place) {
            let path = self.writer.folder.join(place).join(Path::new(&part_name(self.unit, Some(self.writer.run_id))));
            self.open.insert(place.to_string(), Part::create(&path, &kept.schema(), Use::Published)?);
        }
        self.open.get_mut(place).map_or_else(|| Err(Error::bug("a part was not opened")), |part| part.write(&kept))
    }

    fn finish(self) -> Result<Vec<u64>> {
        self.open.into_values().try_for_each(Part::finish)?;
        Ok(self.counts)
    }
}
