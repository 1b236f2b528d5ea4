//! The inner loops in AVX2: what the compiler makes of the plain ones where that is good, searches by permutes and
//! gathers, leaves by gathers.

use std::any::TypeId;
use std::arch::x86_64::*;

use crate::models::trees::code::{Lane, Node, ROWS, Search};
use crate::models::trees::kernel::{Kernel, Plain, Sum};

/// The loops below.
pub struct Half;

// SAFETY of all calls below: `Half` is used only within `run_avx2`, whose feature is that of the functions
impl Kernel for Half {
    // by counting instructions, not by measurement: a comparison takes 64 loads, a search some 30 times as much
    const FEW: usize = 24;

    #[inline(always)]
    fn compare(x: &[f32; ROWS], thresholds: &[f32], out: &mut [Lane]) {
        unsafe { compare(x, thresholds, out) }
    }

    #[inline(always)]
    fn search(x: &[f32; ROWS], table: &Search, out: &mut [u32; ROWS]) {
        unsafe { search(x, table, out) }
    }

    #[inline(always)]
    fn part(nodes: &[Node], inner: usize, conditions: &[Lane], slots: &mut [Lane]) {
        Plain::part(nodes, inner, conditions, slots);
    }

    #[inline(always)]
    fn xor(turns: &[u32], slots: &[Lane]) -> Lane {
        Plain::xor(turns, slots)
    }

    #[inline(always)]
    fn add<T: Sum>(planes: &[Lane], leaves: &[T], stride: usize, sums: &mut [T]) {
        // every number that the planes can spell has its leaf, and 32 bits are enough for its place
        let last = ((1u64 << planes.len()) - 1).saturating_mul(stride as u64);
        let there = last < (leaves.len() as u64).min(1 << 27) && sums.len() >= ROWS;
        if there && planes.len() <= 16 && TypeId::of::<T>() == TypeId::of::<f32>() {
            unsafe { add_f32(planes, leaves.as_ptr().cast(), stride, sums.as_mut_ptr().cast()) }
        } else if there && planes.len() <= 16 && TypeId::of::<T>() == TypeId::of::<f64>() {
            unsafe { add_f64(planes, leaves.as_ptr().cast(), stride, sums.as_mut_ptr().cast()) }
        } else {
            Plain::add(planes, leaves, stride, sums);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn compare(x: &[f32; ROWS], thresholds: &[f32], out: &mut [Lane]) {
    for (threshold, lane) in thresholds.iter().zip(out) {
        let threshold = _mm256_set1_ps(*threshold);
        for (word, values) in lane.0.iter_mut().zip(x.chunks_exact(64)) {
            *word = 0;
            for i in 0..8 {
                // SAFETY: `values` has 64 floats, of which these are each eighth's 8
                let values = unsafe { _mm256_loadu_ps(values.as_ptr().add(8 * i)) };
                let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(values, threshold));
                *word |= u64::from(mask as u32) << (8 * i);
            }
        }
    }
}

/// Level by level.
#[inline]
#[target_feature(enable = "avx2")]
fn search(x: &[f32; ROWS], table: &Search, out: &mut [u32; ROWS]) {
    let end = _mm256_set1_epi32(table.thresholds.len() as i32);
    assert!(table.tree.len() >= Search::level(table.levels));
    for (values, places) in x.chunks_exact(32).zip(out.chunks_exact_mut(32)) {
        // SAFETY: 32 values are four registers
        let values: [__m256; 4] =
            std::array::from_fn(|i| unsafe { _mm256_loadu_ps(values.as_ptr().add(8 * i)) });
        let mut paths = [_mm256_setzero_si256(); 4];
        for level in 0..table.levels {
            // SAFETY: level l is `max(16, 2^l)` floats from `Search::level(l)` on, and a path on it is less
            // than 2^l
            let middles = unsafe { middles(table.tree.as_ptr().add(Search::level(level)), level, paths) };
            for i in 0..4 {
                // all ones, so minus one, where it is
                let above = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_NLE_UQ>(values[i], middles[i]));
                paths[i] = _mm256_sub_epi32(_mm256_add_epi32(paths[i], paths[i]), above);
            }
        }
        for (i, path) in paths.into_iter().enumerate() {
            // SAFETY: 32 places are four registers
            unsafe {
                _mm256_storeu_si256(places.as_mut_ptr().add(8 * i).cast(), _mm256_min_epu32(path, end))
            };
        }
    }
}

/// `level[path]` for each path.
///
/// # Safety
/// `level` points to 2^depth floats or 16, whichever is more; paths are less than 2^depth.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn middles(level: *const f32, depth: u32, paths: [__m256i; 4]) -> [__m256; 4] {
    // SAFETY: the caller's promise
    unsafe {
        match depth {
            0..=3 => {
                let all = _mm256_loadu_ps(level);
                paths.map(|path| _mm256_permutevar8x32_ps(all, path))
            }
            4 => {
                let (low, high) = (_mm256_loadu_ps(level), _mm256_loadu_ps(level.add(8)));
                paths.map(|path| {
                    // a permute reads three bits; the fourth says which of the two
                    let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(path));
                    let (low, high) =
                        (_mm256_permutevar8x32_ps(low, path), _mm256_permutevar8x32_ps(high, path));
                    _mm256_blendv_ps(low, high, upper)
                })
            }
            _ => paths.map(|path| _mm256_i32gather_ps::<4>(level, path)),
        }
    }
}

/// The numbers of the rows from 32 `part` on as bytes; at most 8 planes.
#[inline]
#[target_feature(enable = "avx2")]
fn numbers(planes: &[Lane], part: usize) -> __m256i {
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let mut all = _mm256_setzero_si256();
    for (digit, plane) in planes.iter().enumerate() {
        let word = (plane.0[part / 2] >> (32 * (part % 2))) as i32;
        let own = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), spread), bits);
        let set = _mm256_cmpeq_epi8(own, bits);
        all = _mm256_or_si256(all, _mm256_and_si256(set, _mm256_set1_epi8((1u8 << digit) as i8)));
    }
    all
}

/// Calls `then` with the first row of eight and the places of their leaves.
#[inline]
#[target_feature(enable = "avx2")]
fn eights(planes: &[Lane], stride: usize, mut then: impl FnMut(usize, __m256i)) {
    let (low, high) = planes.split_at(planes.len().min(8));
    for part in 0..ROWS / 32 {
        let bytes = [numbers(low, part), numbers(high, part)].map(|n| {
            let (first, last) = (_mm256_castsi256_si128(n), _mm256_extracti128_si256::<1>(n));
            [first, _mm_srli_si128::<8>(first), last, _mm_srli_si128::<8>(last)]
        });
        for (eight, (low_byte, high_byte)) in bytes[0].into_iter().zip(bytes[1]).enumerate() {
            let mut at = _mm256_cvtepu8_epi32(low_byte);
            if !high.is_empty() {
                at = _mm256_or_si256(at, _mm256_slli_epi32::<8>(_mm256_cvtepu8_epi32(high_byte)));
            }
            if stride != 1 {
                at = _mm256_mullo_epi32(at, _mm256_set1_epi32(stride as i32));
            }
            then(32 * part + 8 * eight, at);
        }
    }
}

/// # Safety
/// `leaves` points to a value for each number of the planes, at most 16, `stride` apart, and `sums` to those of a
/// slab.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_f32(planes: &[Lane], leaves: *const f32, stride: usize, sums: *mut f32) {
    eights(planes, stride, |row, at| {
        // SAFETY: 8 rows of the slab's 512, and the caller's promise
        unsafe {
            let (sum, leaf) = (sums.add(row), _mm256_i32gather_ps::<4>(leaves, at));
            _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), leaf));
        }
    });
}

/// # Safety
/// As for [`add_f32`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_f64(planes: &[Lane], leaves: *const f64, stride: usize, sums: *mut f64) {
    eights(planes, stride, |row, at| {
        for (half, at) in
            [_mm256_castsi256_si128(at), _mm256_extracti128_si256::<1>(at)].into_iter().enumerate()
        {
            // SAFETY: 4 rows of the slab's 512, and the caller's promise
            unsafe {
                let (sum, leaf) = (sums.add(row + 4 * half), _mm256_i32gather_pd::<8>(leaves, at));
                _mm256_storeu_pd(sum, _mm256_add_pd(_mm256_loadu_pd(sum), leaf));
            }
        }
    });
}
