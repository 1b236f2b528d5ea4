//! The bundle scores rows of its history: the model can be loaded and fed, and its probabilities go with the labels.

use serde_json::{Value, json};

use crate::commands::add::classes::Order;
use crate::commands::add::history::History;
use crate::commands::add::request::ask;
use crate::error::{Error, Result};
use crate::features::column::label_texts;
use crate::sources::trial;
use crate::teacher::Teacher;
use crate::teacher::encode::Plan;
use crate::teacher::features::features;

/// Rows of the history that are scored.
const ROWS: usize = 2000;
/// Classes whose orders are all tried.
const MOST_TRIED: usize = 7;
/// An order is known where its log-loss is below that of every other by so many standard errors.
const SURE: f64 = 5.0;
/// Probabilities below this count as this.
const LEAST: f64 = 1e-6;

/// Scored rows of a history.
pub struct Proof {
    /// Each row's class among the teacher's.
    labels: Vec<usize>,
    /// `[rows, classes]`, row-major.
    scores: Vec<f64>,
    classes: usize,
}

impl Proof {
    /// Scores rows of the history with the bundle's model.
    pub fn score(teacher: Teacher, history: &History) -> Result<Proof> {
        let teachers = [teacher];
        let features = features(&teachers, &history.accounts)?;
        let [teacher] = teachers;
        let present = features.iter().filter(|f| f.present).map(|f| f.name.clone());
        let columns: Vec<String> = present.chain([history.label.clone()]).collect();
        let batch = trial::spaced(&history.accounts, &columns, ROWS)?
            .ok_or_else(|| Error::data("the table has no row").file(history.accounts.place()))?;
        let block = trial::decode(&history.accounts, &batch, &features)?;
        let mut plan = Plan::default();
        let encoder = plan.add(&teacher.bundle, &features)?;
        let scores = trial::scores(&teacher, &plan, &encoder, &block)?;
        let texts = label_texts(batch.column(batch.num_columns() - 1))?;
        let names = &teacher.bundle.model.classes;
        let class = |label: Option<&str>| names.iter().position(|n| Some(n.as_str()) == label).unwrap_or(0);
        let labels = texts.iter().map(class).collect();
        Ok(Proof { labels, scores, classes: names.len() })
    }

    /// The loss of each row where output k is class `order[k]`.
    fn losses(&self, order: &[usize]) -> Vec<f64> {
        let mut output = vec![0; order.len()];
        order.iter().enumerate().for_each(|(k, class)| output[*class] = k);
        let rows = self.scores.chunks_exact(self.classes).zip(&self.labels);
        rows.map(|(p, label)| -p[output[*label]].max(LEAST).ln()).collect()
    }

    /// The order of the classes that goes best with the labels, where it is beyond doubt.
    fn best_order(&self) -> Option<Vec<usize>> {
        if self.classes > MOST_TRIED || self.labels.len() < 2 {
            return None;
        }
        let mut orders: Vec<(f64, Vec<usize>)> =
            orders(self.classes).into_iter().map(|o| (mean(&self.losses(&o)), o)).collect();
        orders.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (best, second) = (&orders[0].1, &orders.get(1)?.1);
        let gaps: Vec<f64> =
            self.losses(second).iter().zip(self.losses(best)).map(|(second, best)| second - best).collect();
        let middle = mean(&gaps);
        let variance = gaps.iter().map(|g| (g - middle).powi(2)).sum::<f64>() / (gaps.len() - 1) as f64;
        let error = (variance / gaps.len() as f64).sqrt();
        (middle > SURE * error).then(|| best.clone())
    }

    /// The names in the order of the model's outputs: as they are known, or as the labels prove.
    pub fn settle(&self, names: &[String], order: &Order) -> Result<Vec<String>> {
        let best = self.best_order();
        let as_named =
            |order: &[usize]| order.iter().map(|class| names[*class].clone()).collect::<Vec<String>>();
        let is_other = |best: &Vec<usize>| best.iter().enumerate().any(|(at, class)| at != *class);
        match best {
            Some(best) if !order.is_known => Ok(as_named(&best)),
            Some(best) if is_other(&best) && !order.is_typed => {
                let found = as_named(&best).join(",");
                Err(ask("the model's probabilities go with the labels in another order of the classes", "--classes", format!("is this the column that it was trained on? --classes {found} if that is the order of its outputs"))
                    .with("taken", names.join(", ")))
            }
            _ if order.is_known => Ok(names.to_vec()),
            _ => Err(ask(
                "neither the model file nor the labels say which output is which class",
                "--classes",
                format!("--classes {} in the order of the model's outputs", names.join(",")),
            )),
        }
    }

    /// How well the probabilities go with the labels, beside the shares of the classes alone.
    pub fn measures(&self, notes: &mut Vec<String>) -> Value {
        let as_is: Vec<usize> = (0..self.classes).collect();
        let rows = self.labels.len() as f64;
        let loss = mean(&self.losses(&as_is));
        let hits = self.scores.chunks_exact(self.classes).zip(&self.labels).filter(|(p, label)| {
            let highest = p.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(k, _)| k);
            highest == **label
        });
        let accuracy = hits.count() as f64 / rows;
        let share = |class: usize| self.labels.iter().filter(|l| **l == class).count() as f64 / rows;
        let shares: f64 = as_is.iter().map(|c| share(*c)).filter(|s| *s > 0.0).map(|s| -s * s.ln()).sum();
        if loss > shares {
            notes.push(
                "the model says less of these rows than the shares of their classes: are its inputs these columns, in this \
                 order, and its labels these?"
                    .to_string(),
            );
        }
        let round = |v: f64| (v * 1e4).round() / 1e4;
        json!({
            "rows": self.labels.len(),
            "accuracy": round(accuracy),
            "log_loss": round(loss),
            "log_loss_of_shares": round(shares),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// All orders of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(count - 1) {
        for at in 0..count {
            let mut order = shorter.clone();
            order.insert(at, count - 1);
            all.push(order);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_prove_the_order_of_classes_or_they_do_not() {
        let labels: Vec<usize> = (0..300).map(|i| i % 3).collect();
        // output k is class (k + 1) % 3
        let sure = |label: &usize| {
            (0..3).map(|k| if (k + 1) % 3 == *label { 0.8 } else { 0.1 }).collect::<Vec<f64>>()
        };
        let scores = labels.iter().flat_map(sure).collect();
        let proof = Proof { labels: labels.clone(), scores, classes: 3 };
        let names = ["a", "b", "c"].map(String::from);
        let unknown = Order { names: names.to_vec(), is_known: false, is_typed: false };
        assert_eq!(proof.settle(&names, &unknown).unwrap(), ["b", "c", "a"]);
        assert!(proof.settle(&names, &Order { is_known: true, ..unknown }).is_err());
        let blind = Proof { scores: vec![1.0 / 3.0; 900], labels, classes: 3 };
        let unknown = Order { names: names.to_vec(), is_known: false, is_typed: false };
        assert!(blind.settle(&names, &unknown).is_err());
        assert_eq!(blind.settle(&names, &Order { is_known: true, ..unknown }).unwrap(), names);
        assert_eq!(orders(4).len(), 24);
    }
}
