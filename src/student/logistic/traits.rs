//! The same model behind linfa's traits: records are an array of numbers (NaN = null), targets an array of soft labels.

use super::Logistic;
use crate::error::Error;
use crate::student::{Kind, Sample, Student};
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::Array2;

/// Parameters of the fit; there are none to set, the penalty is chosen by it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Params;

/// The fitted model, for linfa's `Predict`: records [n, columns] to probabilities [n, classes].
#[derive(Debug, Clone, PartialEq)]
pub struct Model(pub Logistic);

impl From<linfa::Error> for Error {
    fn from(error: linfa::Error) -> Error {
        Error::data(format!("linfa: {error}"))
    }
}

impl Fit<Array2<f32>, Array2<f64>, Error> for Params {
    type Object = Model;

    /// Fits to soft labels [n, classes], each row a distribution; the dataset's weights are honoured (none: all 1).
    fn fit(&self, dataset: &DatasetBase<Array2<f32>, Array2<f64>>) -> Result<Model, Error> {
        let columns = columns(&dataset.records);
        let soft: Vec<f64> = dataset.targets.iter().copied().collect();
        let weights = match dataset.weights() {
            Some(weights) => weights.iter().map(|w| f64::from(*w)).collect(),
            None => vec![1.0; dataset.records.nrows()],
        };
        let sample = Sample {
            columns: &columns.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            kinds: &vec![Kind::Number; columns.len()],
            soft: &soft,
            weights: &weights,
            classes: dataset.targets.ncols(),
        };
        super::fit(&sample).map(Model)
    }
}

impl PredictInplace<Array2<f32>, Array2<f64>> for Model {
    fn predict_inplace<'a>(&'a self, x: &'a Array2<f32>, y: &mut Array2<f64>) {
        let columns = columns(x);
        let mut out = vec![0.0; x.nrows() * self.0.classes()];
        self.0.predict(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
        y.iter_mut().zip(out).for_each(|(y, p)| *y = p);
    }

    fn default_target(&self, x: &Array2<f32>) -> Array2<f64> {
        Array2::zeros((x.nrows(), self.0.classes()))
    }
}

fn columns(records: &Array2<f32>) -> Vec<Vec<f32>> {
    records.columns().into_iter().map(|c| c.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use linfa::traits::Predict;
    use ndarray::Array1;

    #[test]
    fn fits_and_predicts_as_a_linfa_model() {
        let x = Array2::from_shape_fn((400, 2), |(i, j)| ((i * (7 + 6 * j)) % 101) as f32 / 50.0 - 1.0);
        let p = |a: f32, b: f32| 1.0 / (1.0 + (-f64::from(2.0 * a - b) - 0.3).exp());
        let soft = Array2::from_shape_fn((400, 2), |(i, c)| if c == 1 { p(x[[i, 0]], x[[i, 1]]) } else { 1.0 - p(x[[i, 0]], x[[i, 1]]) });
        let dataset = DatasetBase::new(x, soft).with_weights(Array1::ones(400));
        let model = Params.fit(&dataset).unwrap();
        let predicted: Array2<f64> = model.predict(&dataset);
        let off = (&predicted - &dataset.targets).iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(off < 2e-3, "{off}");
    }
}
