//! Step 6 of 6: a class for every account.
//!
//! In: the accounts and the student, or, where the student fell short of its gate, the soft labels; and what
//! the soft labels say of each account, by which it may be left undecided. Out: the table `classification`,
//! partitioned below its date as the pipeline says, and `summary.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, Result};
use crate::features::block::Block;
use crate::features::coded::{CodedFeature, coded_columns};
use crate::features::column::NonFinite;
use crate::lake::part::{self, Part, Purpose};
use crate::lake::scan::Accounts;
use crate::lake::scan::locate::escape;
use crate::relevance::fusion::decision::{Evidence, Reason, Rule};
use crate::run::context::Run;
use crate::run::fold::{Fold, State};
use crate::stages::artifacts::{
    CLASSIFICATION, COUNTED_PROFILE, FIT, Fit, SOFT_LABELS, STUDENT, SUMMARY, Summary,
};
use crate::stages::scores::KNOWN;
use crate::stages::{Mapped, pieces};
use crate::student::Student;
use crate::teacher::{bundle, read_student};

/// The map over the accounts, and what is made of all of them.
pub struct Step;

impl Mapped for Step {
    type State = Counts;

    fn map(run: &Run, pieces: Range<usize>) -> Result<Counts> {
        let fit = FIT.load(run.directory)?;
        let profile = COUNTED_PROFILE.load(run.directory)?;
        let accounts = profile.accounts(run);
        let bytes = bundle::read_limited(&STUDENT.folder(run.directory).join("model.json"))?;
        let student = read_student(&bytes)?;
        let writer = Writer::new(run, &fit)?;
        let rows = accounts.rows_of(pieces.clone());
        Fold { log: run.log, stage: "classify", rows, pieces }.run(
            || Counts { classes: vec![0; writer.classes.len()], abstained: BTreeMap::new() },
            |piece, counts| {
                let evidence = evidence(run, piece)?;
                let mut parts =
                    Parts { writer: &writer, piece, evidence, written: 0, open: BTreeMap::new(), counts };
                if fit.passed {
                    by_student(run, &accounts, student.as_ref(), &profile.student, &mut parts)?;
                } else {
                    by_soft_label(run, &mut parts)?;
                }
                parts.finish()
            },
        )
    }

    fn reduce(run: &Run, counts: Counts) -> Result<()> {
        let schema = Writer::new(run, &FIT.load(run.directory)?)?.kept_schema()?;
        pieces::join(run, &CLASSIFICATION, &schema)?;
        let classes = run.pipeline.classes.iter().cloned().zip(counts.classes.iter().copied());
        let abstained = counts.abstained.into_iter().map(|(reason, n)| (reason.name().to_string(), n));
        let summary = Summary {
            rows: counts.classes.iter().sum(),
            classes: classes.collect(),
            abstained: abstained.collect(),
        };
        if !summary.abstained.is_empty() {
            run.log.info("classify", "accounts are left undecided", json!(summary.abstained));
        }
        SUMMARY.save(run.directory, &summary)
    }
}

/// What the soft labels say of each account of the piece, in the order of its rows.
fn evidence(run: &Run, piece: usize) -> Result<Vec<Evidence>> {
    let mut out = Vec::new();
    let names = ["support", "disagreement", KNOWN];
    part::read_columns(&SOFT_LABELS.part(run, piece), Some(&names), |batch| {
        let [support, disagreement, known] = [0, 1, 2].map(|i| part::floats(&batch, names[i]));
        let (support, disagreement, known) = (support?, disagreement?, known?);
        out.extend((0..batch.num_rows()).map(|i| Evidence {
            support: support[i],
            disagreement: disagreement[i],
            known: known[i],
        }));
        Ok(())
    })?;
    Ok(out)
}

fn by_student(
    run: &Run,
    accounts: &Accounts,
    student: &dyn Student,
    spec: &[CodedFeature],
    parts: &mut Parts,
) -> Result<()> {
    let columns: Vec<String> =
        [run.pipeline.target.id.clone()].into_iter().chain(run.inputs.present()).collect();
    let mut odd = vec![NonFinite::default(); run.inputs.features.len()];
    accounts.read(&accounts.units()[parts.piece], &columns, |batch, _| {
        let block = Block::decode(&batch, &run.inputs.features, &mut odd)?;
        let columns = coded_columns(spec, &run.inputs.features, &block)?;
        let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
        let mut p = vec![0.0; block.rows * parts.writer.classes.len()];
        student.predict(&columns, &mut p);
        parts.write(batch.column(0).clone(), &p)
    })
}

fn by_soft_label(run: &Run, parts: &mut Parts) -> Result<()> {
    let probabilities: Vec<String> = run.pipeline.classes.iter().map(|c| format!("p_{c}")).collect();
    let names: Vec<&str> =
        [&run.pipeline.target.id].into_iter().chain(&probabilities).map(String::as_str).collect();
    part::read_columns(&SOFT_LABELS.part(run, parts.piece), Some(&names), |batch| {
        let columns =
            probabilities.iter().map(|name| part::floats(&batch, name)).collect::<Result<Vec<_>>>()?;
        let p: Vec<f64> = (0..batch.num_rows()).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
        parts.write(batch.column(0).clone(), &p)
    })
}

/// What all pieces share.
struct Writer<'a> {
    run: &'a Run<'a>,
    folder: PathBuf,
    classes: &'a [String],
    partition_by: &'a [String],
    rule: Rule,
    /// All columns, those of the path included.
    schema: SchemaRef,
    /// `student:<family>`, or `fused` where the soft label decided.
    decided_by: String,
}

impl<'a> Writer<'a> {
    fn new(run: &'a Run, fit: &Fit) -> Result<Writer<'a>> {
        let id = run.inputs.accounts.field(&run.pipeline.target.id)?;
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let mut fields = vec![part::id_field(id), text("class"), part::float_field("confidence")];
        fields.extend(run.pipeline.classes.iter().map(|c| part::float_field(format!("p_{c}"))));
        fields.extend([
            text("decision"),
            Field::new("reason", DataType::Utf8, true),
            text("student"),
            text("run_id"),
        ]);
        Ok(Writer {
            run,
            folder: CLASSIFICATION.folder_of_pieces(run),
            classes: &run.pipeline.classes,
            partition_by: &run.pipeline.output.partition_by,
            rule: run.pipeline.rule(),
            schema: part::schema(fields),
            decided_by: if fit.passed { format!("student:{}", fit.family) } else { "fused".to_string() },
        })
    }

    fn batch(&self, id: ArrayRef, p: &[f64], decided: &[Decided]) -> Result<RecordBatch> {
        let (rows, classes) = (decided.len(), self.classes.len());
        let text = |value: &str| Arc::new(StringArray::from(vec![value; rows])) as ArrayRef;
        let names: StringArray = decided.iter().map(|(c, _)| Some(self.classes[*c].as_str())).collect();
        let confidence = decided.iter().enumerate().map(|(i, (c, _))| p[i * classes + c]).collect();
        let decision: StringArray =
            decided.iter().map(|(_, reason)| Some(decision(reason.is_some()))).collect();
        let reason: StringArray = decided.iter().map(|(_, reason)| reason.map(Reason::name)).collect();
        let mut columns = vec![id, Arc::new(names) as ArrayRef, part::float_array(confidence)];
        columns.extend(
            (0..classes).map(|c| part::float_array(p.iter().skip(c).step_by(classes).copied().collect())),
        );
        columns.extend([
            Arc::new(decision) as ArrayRef,
            Arc::new(reason),
            text(&self.decided_by),
            text(self.run.id()),
        ]);
        part::batch(&self.schema, columns)
    }

    fn kept_schema(&self) -> Result<SchemaRef> {
        let kept = self.schema.project(&self.kept()).map_err(|e| Error::bug(e.to_string()))?;
        Ok(Arc::new(kept))
    }

    /// The columns that stay in the files.
    fn kept(&self) -> Vec<usize> {
        (0..self.schema.fields().len())
            .filter(|i| !self.partition_by.contains(self.schema.field(*i).name()))
            .collect()
    }
}

/// A class, and why it is not decided, if it is not.
type Decided = (usize, Option<Reason>);

fn decision(abstained: bool) -> &'static str {
    if abstained { "abstained" } else { "classified" }
}

/// Accounts of each class, and for each reason those that were left undecided.
#[derive(Serialize, Deserialize)]
pub struct Counts {
    classes: Vec<u64>,
    abstained: BTreeMap<Reason, u64>,
}

impl State for Counts {
    fn merge(&mut self, other: Counts) {
        self.classes.iter_mut().zip(other.classes).for_each(|(n, more)| *n += more);
        other.abstained.into_iter().for_each(|(reason, n)| *self.abstained.entry(reason).or_default() += n);
    }
}

/// The files of one piece: one for each partition that has an account.
struct Parts<'a> {
    writer: &'a Writer<'a>,
    piece: usize,
    /// Of all rows of the piece, and how many of them are written.
    evidence: Vec<Evidence>,
    written: usize,
    open: BTreeMap<String, Part<'a>>,
    counts: &'a mut Counts,
}

impl Parts<'_> {
    /// Classifies the next accounts of the piece by their probabilities `[n, C]`.
    fn write(&mut self, id: ArrayRef, p: &[f64]) -> Result<()> {
        let writer = self.writer;
        if !p.iter().all(|p| p.is_finite()) {
            return Err(Error::bug("the student gave a probability that is not finite"));
        }
        let rows = p.chunks_exact(writer.classes.len());
        let evidence = self.evidence.get(self.written..self.written + rows.len());
        let evidence =
            evidence.ok_or_else(|| Error::bug("the soft labels and the accounts are not the same rows"))?;
        let decided: Vec<Decided> =
            rows.zip(evidence).map(|(p, seen)| writer.rule.decide(p, *seen)).collect();
        self.written += decided.len();
        for (class, reason) in &decided {
            self.counts.classes[*class] += 1;
            if let Some(reason) = reason {
                *self.counts.abstained.entry(*reason).or_default() += 1;
            }
        }
        let batch = writer.batch(id, p, &decided)?;
        if writer.partition_by.is_empty() {
            return self.append("", &batch);
        }
        let by = |key: &str| writer.partition_by.iter().any(|k| k == key);
        let (by_class, by_decision) = (by("class"), by("decision"));
        let key =
            |(class, reason): &Decided| (if by_class { *class } else { 0 }, by_decision && reason.is_some());
        for wanted in decided.iter().map(key).collect::<BTreeSet<_>>() {
            let mask: BooleanArray = decided.iter().map(|d| Some(key(d) == wanted)).collect();
            let rows = filter_record_batch(&batch, &mask).map_err(|e| Error::bug(e.to_string()))?;
            self.append(&self.place(wanted), &rows)?;
        }
        Ok(())
    }

    /// Directory below `ds=`, by hive's rule.
    fn place(&self, (class, abstained): (usize, bool)) -> String {
        let value =
            |key: &str| if key == "class" { &self.writer.classes[class] } else { decision(abstained) };
        self.writer.partition_by.iter().map(|key| format!("{key}={}/", escape(value(key)))).collect()
    }

    fn append(&mut self, place: &str, batch: &RecordBatch) -> Result<()> {
        let kept = batch.project(&self.writer.kept()).map_err(|e| Error::bug(e.to_string()))?;
        if !self.open.contains_key(place) {
            let run = self.writer.run;
            let path = self.writer.folder.join(place).join(CLASSIFICATION.name_of_piece(run, self.piece));
            let part = Part::create(run.directory.store, &path, &kept.schema(), Purpose::Published)?;
            self.open.insert(place.to_string(), part);
        }
        self.open
            .get_mut(place)
            .map_or_else(|| Err(Error::bug("a part was not opened")), |part| part.write(&kept))
    }

    /// Rows written.
    fn finish(self) -> Result<u64> {
        if self.written != self.evidence.len() {
            return Err(Error::bug("the soft labels hold accounts that were not classified"));
        }
        self.open.into_values().try_for_each(Part::finish)?;
        Ok(self.written as u64)
    }
}
