//! The values of an ONNX graph's inputs, and their tensors.

use std::fmt::Debug;
use std::sync::Arc;

use half::f16;
use ort::session::SessionInputValue;
use ort::value::{PrimitiveTensorElementType, Tensor};

use crate::error::Result;
use crate::teacher::onnx::library::failed;

/// The values of one input for all rows of a block, row-major.
pub struct Data {
    pub name: String,
    /// Dimensions: rows, or rows and columns.
    pub rank: usize,
    pub width: usize,
    pub values: Values,
}

/// By the type that the input declares.
pub enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
    Text(Vec<Arc<str>>),
}

impl Data {
    /// The rows `first..first + count` as a tensor of `batch` rows; the last row stands for those beyond.
    pub fn tensor(&self, first: usize, count: usize, batch: usize) -> Result<SessionInputValue<'static>> {
        let cut = Cut {
            first: first * self.width,
            count: count * self.width,
            width: self.width,
            rank: self.rank,
            batch,
        };
        match &self.values {
            Values::F32(v) => cut.tensor(v),
            Values::F64(v) => cut.tensor(v),
            Values::F16(v) => cut.tensor(v),
            Values::I8(v) => cut.tensor(v),
            Values::I16(v) => cut.tensor(v),
            Values::I32(v) => cut.tensor(v),
            Values::I64(v) => cut.tensor(v),
            Values::U8(v) => cut.tensor(v),
            Values::U16(v) => cut.tensor(v),
            Values::U32(v) => cut.tensor(v),
            Values::U64(v) => cut.tensor(v),
            Values::Bool(v) => cut.tensor(v),
            Values::Text(v) => {
                let tensor = Tensor::from_string_array((cut.shape(), cut.values(v).as_slice()));
                Ok(tensor.map_err(|e| failed("its input cannot be made", &e))?.into())
            }
        }
    }
}

/// Some rows of an input, made up to `batch` rows.
struct Cut {
    first: usize,
    count: usize,
    width: usize,
    rank: usize,
    batch: usize,
}

impl Cut {
    fn shape(&self) -> Vec<usize> {
        if self.rank == 1 { vec![self.batch] } else { vec![self.batch, self.width] }
    }

    fn values<T: Clone>(&self, all: &[T]) -> Vec<T> {
        let mut values = all[self.first..self.first + self.count].to_vec();
        let last = values[values.len() - self.width..].to_vec();
        while values.len() < self.batch * self.width {
            values.extend_from_slice(&last);
        }
        values
    }

    fn tensor<T: PrimitiveTensorElementType + Clone + Debug + 'static>(
        &self,
        all: &[T],
    ) -> Result<SessionInputValue<'static>> {
        let tensor = Tensor::from_array((self.shape(), self.values(all)));
        Ok(tensor.map_err(|e| failed("its input cannot be made", &e))?.into())
    }
}
