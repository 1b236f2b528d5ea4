//! The inner loops in AVX-512.

use std::any::TypeId;
use std::arch::x86_64::*;

use crate::models::trees::code::{Lane, Node, ROWS, Search};
use crate::models::trees::kernel::{Kernel, Plain, Sum};

/// The loops below.
pub struct Wide;

// SAFETY of all calls below: `Wide` is used only within `run_avx512`, whose features are those of the
// functions
impl Kernel for Wide {
    const FEW: usize = 40;

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
        unsafe { part(nodes, inner, conditions, slots) }
    }

    #[inline(always)]
    fn xor(turns: &[u32], slots: &[Lane]) -> Lane {
        unsafe { xor(turns, slots) }
    }

    #[inline(always)]
    fn add<T: Sum>(planes: &[Lane], leaves: &[T], stride: usize, sums: &mut [T]) {
        let small = stride == 1 && leaves.len() == 1 << planes.len() && sums.len() >= ROWS;
        if small && planes.len() <= 7 && TypeId::of::<T>() == TypeId::of::<f32>() {
            unsafe { add_f32(planes, leaves.as_ptr().cast(), sums.as_mut_ptr().cast()) }
        } else if small && planes.len() <= 6 && TypeId::of::<T>() == TypeId::of::<f64>() {
            unsafe { add_f64(planes, leaves.as_ptr().cast(), sums.as_mut_ptr().cast()) }
        } else {
            Plain::add(planes, leaves, stride, sums);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn compare(x: &[f32; ROWS], thresholds: &[f32], out: &mut [Lane]) {
    for (threshold, lane) in thresholds.iter().zip(out) {
        let threshold = _mm512_set1_ps(*threshold);
        for (word, values) in lane.0.iter_mut().zip(x.chunks_exact(64)) {
            // SAFETY: `values` has 64 floats, of which these are each fourth's 16
            let mask = |i: usize| unsafe {
                _mm512_cmp_ps_mask::<_CMP_LE_OQ>(_mm512_loadu_ps(values.as_ptr().add(16 * i)), threshold)
            };
            let half = |i: usize| _mm512_kunpackw(u32::from(mask(i + 1)), u32::from(mask(i)));
            *word = _mm512_kunpackd(u64::from(half(2)), u64::from(half(0)));
        }
    }
}

/// Level by level; the thresholds of the first eight are in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn search(x: &[f32; ROWS], table: &Search, out: &mut [u32; ROWS]) {
    let end = _mm512_set1_epi32(table.thresholds.len() as i32);
    assert!(table.tree.len() >= Search::level(table.levels));
    for (values, places) in x.chunks_exact(64).zip(out.chunks_exact_mut(64)) {
        // SAFETY: 64 values are four registers
        let values: [__m512; 4] =
            std::array::from_fn(|i| unsafe { _mm512_loadu_ps(values.as_ptr().add(16 * i)) });
        let mut paths = [_mm512_setzero_si512(); 4];
        for level in 0..table.levels {
            // SAFETY: level l is `max(16, 2^l)` floats from `Search::level(l)` on, and a path on it is less
            // than 2^l
            let middles = unsafe { middles(table.tree.as_ptr().add(Search::level(level)), level, paths) };
            for i in 0..4 {
                let above = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(values[i], middles[i]);
                paths[i] = _mm512_add_epi32(paths[i], paths[i]);
                paths[i] = _mm512_mask_add_epi32(paths[i], above, paths[i], _mm512_set1_epi32(1));
            }
        }
        for (i, path) in paths.into_iter().enumerate() {
            // SAFETY: 64 places are four registers
            unsafe {
                _mm512_storeu_si512(places.as_mut_ptr().add(16 * i).cast(), _mm512_min_epu32(path, end))
            };
        }
    }
}

/// `level[path]` for each path.
///
/// # Safety
/// `level` points to 2^depth floats or 16, whichever is more; paths are less than 2^depth.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn middles(level: *const f32, depth: u32, paths: [__m512i; 4]) -> [__m512; 4] {
    // SAFETY: the caller's promise
    unsafe {
        match depth {
            0..=4 => {
                let all = _mm512_loadu_ps(level);
                paths.map(|path| _mm512_permutexvar_ps(path, all))
            }
            5 => {
                let (low, high) = (_mm512_loadu_ps(level), _mm512_loadu_ps(level.add(16)));
                paths.map(|path| _mm512_permutex2var_ps(low, path, high))
            }
            6 | 7 => {
                let mut found = [_mm512_setzero_ps(); 4];
                for part in 0..1 << (depth - 5) {
                    let (low, high) =
                        (_mm512_loadu_ps(level.add(32 * part)), _mm512_loadu_ps(level.add(32 * part + 16)));
                    for i in 0..4 {
                        let here = _mm512_cmpeq_epi32_mask(
                            _mm512_srli_epi32::<5>(paths[i]),
                            _mm512_set1_epi32(part as i32),
                        );
                        found[i] =
                            _mm512_mask_mov_ps(found[i], here, _mm512_permutex2var_ps(low, paths[i], high));
                    }
                }
                found
            }
            _ => paths.map(|path| _mm512_i32gather_ps::<4>(path, level)),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn part(nodes: &[Node], inner: usize, conditions: &[Lane], slots: &mut [Lane]) {
    let (inner, last) = nodes.split_at(inner);
    for (at, node) in inner.iter().enumerate() {
        let (here, holds) = (load(&slots[at]), load(&conditions[node.condition as usize]));
        store(&mut slots[node.left as usize], _mm512_and_si512(here, holds));
        store(&mut slots[node.right as usize], _mm512_andnot_si512(holds, here));
    }
    for (at, node) in (inner.len()..).zip(last) {
        let (here, holds) = (load(&slots[at]), load(&conditions[node.condition as usize]));
        store(&mut slots[node.right as usize], _mm512_andnot_si512(holds, here));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn xor(turns: &[u32], slots: &[Lane]) -> Lane {
    let mut all = Lane([0; ROWS / 64]);
    let sum = turns
        .iter()
        .fold(_mm512_setzero_si512(), |sum, &turn| _mm512_xor_si512(sum, load(&slots[turn as usize])));
    store(&mut all, sum);
    all
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn load(lane: &Lane) -> __m512i {
    // SAFETY: a lane is 64 bytes, aligned
    unsafe { _mm512_load_si512(lane.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn store(lane: &mut Lane, value: __m512i) {
    // SAFETY: a lane is 64 bytes, aligned
    unsafe { _mm512_store_si512(lane.0.as_mut_ptr().cast(), value) }
}

/// The numbers of 64 rows as bytes; at most 8 planes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn numbers(planes: &[Lane], word: usize) -> [__m128i; 4] {
    let mut all = _mm512_setzero_si512();
    for (digit, plane) in planes.iter().enumerate() {
        all = _mm512_mask_add_epi8(all, plane.0[word], all, _mm512_set1_epi8((1u8 << digit) as i8));
    }
    [
        _mm512_extracti32x4_epi32::<0>(all),
        _mm512_extracti32x4_epi32::<1>(all),
        _mm512_extracti32x4_epi32::<2>(all),
        _mm512_extracti32x4_epi32::<3>(all),
    ]
}

/// # Safety
/// `leaves` points to `2^planes.len()` values, at most 128, and `sums` to those of a slab.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn add_f32(planes: &[Lane], leaves: *const f32, sums: *mut f32) {
    let count = 1usize << planes.len();
    // SAFETY: only the `count` values that are there are read
    let table: [__m512; 8] = std::array::from_fn(|i| unsafe {
        let left = count.saturating_sub(16 * i).min(16);
        _mm512_maskz_loadu_ps(((1u32 << left) - 1) as u16, leaves.wrapping_add(16 * i))
    });
    for word in 0..ROWS / 64 {
        for (part, number) in numbers(planes, word).into_iter().enumerate() {
            let number = _mm512_cvtepu8_epi32(number);
            let pick = |i: usize| _mm512_permutex2var_ps(table[2 * i], number, table[2 * i + 1]);
            let digit = |d: usize| (planes[d].0[word] >> (16 * part)) as u16;
            let leaf = match planes.len() {
                0..=5 => pick(0),
                6 => _mm512_mask_mov_ps(pick(0), digit(5), pick(1)),
                _ => {
                    let (low, high) = (
                        _mm512_mask_mov_ps(pick(0), digit(5), pick(1)),
                        _mm512_mask_mov_ps(pick(2), digit(5), pick(3)),
                    );
                    _mm512_mask_mov_ps(low, digit(6), high)
                }
            };
            // SAFETY: 16 rows of the slab's 512
            unsafe {
                let sum = sums.add(64 * word + 16 * part);
                _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), leaf));
            }
        }
    }
}

/// # Safety
/// `leaves` points to `2^planes.len()` values, at most 64, and `sums` to those of a slab.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn add_f64(planes: &[Lane], leaves: *const f64, sums: *mut f64) {
    let count = 1usize << planes.len();
    // SAFETY: only the `count` values that are there are read
    let table: [__m512d; 8] = std::array::from_fn(|i| unsafe {
        let left = count.saturating_sub(8 * i).min(8);
        _mm512_maskz_loadu_pd(((1u32 << left) - 1) as u8, leaves.wrapping_add(8 * i))
    });
    for word in 0..ROWS / 64 {
        for (part, number) in numbers(planes, word).into_iter().enumerate() {
            for (half, number) in [number, _mm_srli_si128::<8>(number)].into_iter().enumerate() {
                let number = _mm512_cvtepu8_epi64(number);
                let pick = |i: usize| _mm512_permutex2var_pd(table[2 * i], number, table[2 * i + 1]);
                let digit = |d: usize| (planes[d].0[word] >> (16 * part + 8 * half)) as u8;
                let leaf = match planes.len() {
                    0..=4 => pick(0),
                    5 => _mm512_mask_mov_pd(pick(0), digit(4), pick(1)),
                    _ => {
                        let (low, high) = (
                            _mm512_mask_mov_pd(pick(0), digit(4), pick(1)),
                            _mm512_mask_mov_pd(pick(2), digit(4), pick(3)),
                        );
                        _mm512_mask_mov_pd(low, digit(5), high)
                    }
                };
                // SAFETY: 8 rows of the slab's 512
                unsafe {
                    let sum = sums.add(64 * word + 16 * part + 8 * half);
                    _mm512_storeu_pd(sum, _mm512_add_pd(_mm512_loadu_pd(sum), leaf));
                }
            }
        }
    }
}
