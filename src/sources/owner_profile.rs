//! What a teacher's profile says of its labelled history, where its rows may not leave their owner.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::features::block::Feature;
use crate::features::kind::Kind;
use crate::relevance::profile::profiles::Summary;
use crate::relevance::shared::file::{Labels, SketchFile, Table};
use crate::relevance::transfer::calibrate::Calibration;
use crate::relevance::transfer::reliability::{Tables, Weighted};
use crate::sources::history;
use crate::sources::inputs::Panel;
use crate::teacher::Teacher;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Reads and checks a file that `coldstart profile` wrote; it comes from somebody else.
pub fn parse(path: &Path) -> Result<SketchFile> {
    let cannot = |e: std::io::Error| Error::io(&e, "cannot read the profile", path);
    let meta = std::fs::metadata(path).map_err(cannot)?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Err(Error::data("the profile is no regular file of at most 64 MiB")
            .file(path)
            .value(format!("{} bytes", meta.len())));
    }
    SketchFile::parse(&std::fs::read(path).map_err(cannot)?).map_err(|e| e.file(path))
}

/// The summary of each of `features`, where the sketch has it with that kind.
pub fn read(path: &Path, features: &[Feature]) -> Result<Vec<Option<Summary>>> {
    let mut file = parse(path)?;
    let fits = |kind: Kind, s: &Summary| {
        matches!((kind, s), (Kind::Number, Summary::Number(_)) | (Kind::Category, Summary::Category(_)))
    };
    Ok(features.iter().map(|f| file.features.remove(&f.name).filter(|s| fits(f.kind, s))).collect())
}

/// The labelled part of the profile of the teacher at `place` of `active`, over the target's classes, with a
/// table for each of `active` that it has one of; `models` are the digests of their models. None where the
/// teacher has no profile, or one without labels.
pub fn tables(panel: Panel, active: &[usize], models: &[String], place: usize) -> Result<Option<Tables>> {
    let teacher = &panel.teachers[active[place]];
    let Some(path) = teacher.bundle.profile_path() else { return Ok(None) };
    let refuse = |e: Error| e.file(&path).with("teacher", teacher.name());
    let file = parse(&path).map_err(|e| e.with("teacher", teacher.name()))?;
    let Some(labels) = file.labels else { return Ok(None) };
    let onto = label_classes(&labels, teacher).map_err(refuse)?;
    let classes = panel.pipeline.classes.len();
    let mut counts = vec![0; classes];
    labels.counts.iter().zip(&onto).for_each(|(n, class)| counts[*class] += n);
    history::enough_rows(panel.pipeline, &counts).map_err(refuse)?;
    let calibration = own_calibration(&labels, teacher, &models[place], classes).map_err(refuse)?;
    let mut tables = Vec::with_capacity(active.len());
    for (&k, model) in active.iter().zip(models) {
        let other = &panel.teachers[k];
        let table = labels.tables.iter().find(|t| t.teacher == other.name());
        let current = table.is_some_and(|t| t.classes == other.bundle.model.classes && t.model == *model);
        if table.is_some() && !current {
            let names = json!({"profile of": teacher.name(), "table of": other.name()});
            panel.log.warn(
                "relevance",
                "a profile holds a table of another model of this name, which is not used",
                names,
            );
        }
        tables.push(
            table.filter(|_| current).map(|t| weighted(t, &onto, other)).filter(|t| !t.labels.is_empty()),
        );
    }
    Ok(Some(Tables { counts, calibration, tables }))
}

/// For each label its class among the target's.
fn label_classes(labels: &Labels, teacher: &Teacher) -> Result<Vec<usize>> {
    let own = &teacher.bundle.model.classes;
    let class = |name: &String| {
        let class = history::class_of(own, name).map_err(|e| e.with("key", "labels.classes"))?;
        Ok(teacher.onto[class])
    };
    labels.classes.iter().map(class).collect()
}

/// The own calibration over the target's classes; identity where the profile has none, or where classes are
/// merged on the way.
fn own_calibration(labels: &Labels, teacher: &Teacher, model: &str, classes: usize) -> Result<Calibration> {
    let Some(own) = &labels.own else { return Ok(Calibration::identity(classes)) };
    if own.teacher != teacher.name() || own.model != model || labels.classes != teacher.bundle.model.classes {
        return Err(Error::data("the profile's own calibration is of another model")
            .with("key", "labels.own.model")
            .value(format!("{}, {}", own.teacher, own.model))
            .hint("coldstart profile ... --teacher BUNDLE makes it anew"));
    }
    let mut out = Calibration { slope: own.calibration.slope, bias: vec![0.0; classes] };
    if teacher.onto.len() > classes {
        return Ok(Calibration::identity(classes));
    }
    teacher.onto.iter().zip(&own.calibration.bias).for_each(|(class, b)| out.bias[*class] = *b);
    Ok(out)
}

fn weighted(table: &Table, onto: &[usize], teacher: &Teacher) -> Weighted {
    let mut out = Weighted::default();
    for cell in table.cells.iter().filter(|c| c.rows > 0) {
        let mut score = vec![0.0; teacher.classes()];
        cell.score.iter().zip(&teacher.onto).for_each(|(p, class)| score[*class] += p);
        out.scores.extend(score);
        out.labels.push(onto[cell.label] as u16);
        out.weights.push(cell.rows as f64);
    }
    out
}
