//! What the labelled rows of a scenario say without leaving it: class counts, the own calibration, and tables
//! of scores against labels.

use std::collections::BTreeSet;

use crate::commands::share::request::Request;
use crate::error::{Error, Result};
use crate::features::block::Feature;
use crate::lake::scan::Accounts;
use crate::relevance::shared::file::{Labels, Own, Table};
use crate::relevance::shared::laplace::Laplace;
use crate::relevance::transfer::calibrate::{Calibration, own_calibration};
use crate::relevance::transfer::reliability::{Cell, cells};
use crate::sources::calculator_file::model_digest;
use crate::sources::history::{self, History};
use crate::teacher::Teacher;
use crate::teacher::encode::Plan;
use crate::teacher::features::features;

/// Rows from which a calibration is fitted again under noise.
const MOST_ROWS: u64 = 100_000;

/// Histograms in which a labelled row is counted.
pub fn histograms(labels: &Labels) -> u64 {
    1 + labels.tables.len() as u64
}

/// Every count with noise; the own calibration is then what the noisy table says.
pub fn blur(labels: &mut Labels, noise: &Laplace) {
    labels.counts = noise.counts("labels", &labels.counts);
    for table in &mut labels.tables {
        let counts: Vec<u64> = table.cells.iter().map(|c| c.rows).collect();
        let noisy = noise.counts(&format!("table {}", table.teacher), &counts);
        table.cells.iter_mut().zip(noisy).for_each(|(cell, n)| cell.rows = n);
        table.cells.retain(|cell| cell.rows > 0);
    }
    if let Some(own) = &mut labels.own
        && own.calibration != Calibration::identity(labels.classes.len())
        && let Some(table) = labels.tables.iter().find(|t| t.teacher == own.teacher)
    {
        own.calibration = from_cells(&table.cells, labels.classes.len());
    }
}

/// Own calibration as far as cells tell: each row by the score of its cell. Counts are scaled down to
/// [`MOST_ROWS`], as noise can make them any size.
fn from_cells(cells: &[Cell], classes: usize) -> Calibration {
    let total: u64 = cells.iter().map(|c| c.rows).sum();
    let times = total.div_ceil(MOST_ROWS).max(1);
    let (mut raw, mut labels) = (Vec::new(), Vec::new());
    for cell in cells {
        let rows = cell.rows / times;
        (0..rows).for_each(|_| raw.extend(&cell.score));
        labels.extend((0..rows).map(|_| cell.label as u16));
    }
    if labels.is_empty() { Calibration::identity(classes) } else { own_calibration(&raw, &labels, classes) }
}

/// Measures the labelled rows as `request` says; they are held in memory, like every history.
pub fn measure(accounts: &Accounts, label: &str, request: &Request) -> Result<Labels> {
    let mut teachers = request.teacher.map(Teacher::alone).transpose()?.into_iter().collect::<Vec<_>>();
    let own = teachers.first().map(|t| t.name().to_string());
    for folder in request.score_with {
        let teacher = Teacher::alone(folder)?;
        match teachers.iter().position(|t| t.name() == teacher.name()) {
            None => teachers.push(teacher),
            // Naming the own bundle once more says nothing new.
            Some(0) if own.is_some() => {}
            Some(_) => {
                return Err(Error::data("two bundles have the same name").file(folder).value(teacher.name()));
            }
        }
    }
    let features = features(&teachers, accounts)?;
    if let Some(f) = features.iter().find(|f| f.name == label) {
        return Err(Error::data("a teacher takes the label as a feature")
            .file(accounts.place())
            .column(&f.name));
    }
    let extra: Vec<String> =
        [Some(label), request.held_out].into_iter().flatten().map(str::to_string).collect();
    let history = history::at(request.accounts, &features, &extra.iter().collect::<Vec<_>>())?;
    let texts = history.texts(label)?;
    let classes = match teachers.first().filter(|_| own.is_some()) {
        Some(own) => own.bundle.model.classes.clone(),
        None => texts.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
    };
    let refuse = |e: Error| e.file(accounts.place()).column(label);
    let class = |text: &String| history::class_of(&classes, text).map(|c| c as u16).map_err(refuse);
    let labels = texts.iter().map(class).collect::<Result<Vec<u16>>>()?;
    let mut counts = vec![0; classes.len()];
    labels.iter().for_each(|y| counts[usize::from(*y)] += 1);
    let held_out = request.held_out.map(|column| history.flags(column)).transpose()?;
    let held: Vec<usize> =
        held_out.iter().flatten().enumerate().filter_map(|(i, held)| held.then_some(i)).collect();
    let mut out = Labels { classes, counts, own: None, tables: Vec::new() };
    for (k, scores) in score(&teachers, &features, &history)?.into_iter().enumerate() {
        let teacher = &teachers[k];
        let width = teacher.classes();
        let is_own = k == 0 && own.is_some();
        // Only rows that did not train a model may judge it.
        let (raw, judges) = if is_own && !held.is_empty() {
            (
                held.iter().flat_map(|i| scores[i * width..(i + 1) * width].to_vec()).collect(),
                held.iter().map(|i| labels[*i]).collect(),
            )
        } else {
            (scores, labels.clone())
        };
        let model = model_digest(teacher)?;
        if is_own {
            let calibration = if held.is_empty() {
                Calibration::identity(width)
            } else {
                own_calibration(&raw, &judges, width)
            };
            out.own = Some(Own { teacher: teacher.name().to_string(), model: model.clone(), calibration });
        }
        let cells = cells(&raw, width, &judges, out.classes.len());
        out.tables.push(Table {
            teacher: teacher.name().to_string(),
            model,
            classes: teacher.bundle.model.classes.clone(),
            cells,
        });
    }
    Ok(out)
}

/// Every teacher's scores over its own classes `[n, C]`.
fn score(teachers: &[Teacher], features: &[Feature], history: &History) -> Result<Vec<Vec<f64>>> {
    let mut plan = Plan::default();
    let encoders = teachers.iter().map(|t| plan.add(&t.bundle, features)).collect::<Result<Vec<_>>>()?;
    let mut scores = vec![Vec::new(); teachers.len()];
    history.blocks(|block| {
        crate::process::cancel::check()?;
        let matrix = plan.encode(&block);
        for ((teacher, encoder), scores) in teachers.iter().zip(&encoders).zip(&mut scores) {
            let start = scores.len();
            scores.resize(start + block.rows * teacher.classes(), 0.0);
            teacher.score(encoder, &block, &matrix, &mut scores[start..])?;
        }
        Ok(())
    })?;
    Ok(scores)
}
