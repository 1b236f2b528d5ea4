//! One list of checks that every family must pass, on samples that are made to be awkward.

use crate::student::numeric::{mix, softmax};
use crate::student::*;

/// Columns, kinds, soft labels and weights that own their data.
#[derive(Clone)]
struct Owned {
    columns: Vec<Vec<f32>>,
    kinds: Vec<Kind>,
    soft: Vec<f64>,
    weights: Vec<f64>,
    classes: usize,
}

impl Owned {
    /// n rows of two numbers (the second with nulls), a category of six levels (with nulls), and a teacher
    /// with steps and slopes.
    fn usual(n: usize, classes: usize) -> Owned {
        let unit = |j: u64, i: usize| (mix(j, i as u64) % 10_000) as f32 / 10_000.0;
        let a: Vec<f32> = (0..n).map(|i| 4.0 * unit(1, i) - 2.0).collect();
        let b: Vec<f32> =
            (0..n).map(|i| if unit(5, i) < 0.1 { f32::NAN } else { (unit(2, i) * 9.0).exp() }).collect();
        let c: Vec<f32> =
            (0..n).map(|i| if unit(6, i) < 0.05 { f32::NAN } else { (unit(3, i) * 6.0).floor() }).collect();
        let mut soft = Vec::with_capacity(n * classes);
        for i in 0..n {
            let step = if b[i].is_nan() { 0.4 } else { f64::from(u8::from(b[i] > 50.0)) };
            let level = if c[i] == 2.0 { 1.0 } else { 0.0 };
            let logit =
                |k: usize| k as f64 * (0.8 * f64::from(a[i]) + step - 0.5) - if k == 1 { level } else { 0.0 };
            let mut row: Vec<f64> = (0..classes).map(logit).collect();
            softmax(&mut row);
            soft.extend(row);
        }
        let weights = (0..n).map(|i| 0.5 + f64::from(unit(7, i))).collect();
        Owned {
            columns: vec![a, b, c],
            kinds: vec![Kind::Number, Kind::Number, Kind::Category { levels: 8 }],
            soft,
            weights,
            classes,
        }
    }

    /// The same soft label in every row.
    fn flat(mut self, label: &[f64]) -> Owned {
        self.soft.chunks_exact_mut(self.classes).for_each(|row| row.copy_from_slice(label));
        self
    }

    fn head(mut self, n: usize) -> Owned {
        self.columns.iter_mut().for_each(|c| c.truncate(n));
        self.soft.truncate(n * self.classes);
        self.weights.truncate(n);
        self
    }

    fn column(mut self, column: Vec<f32>, kind: Kind) -> Owned {
        self.columns.push(column);
        self.kinds.push(kind);
        self
    }

    fn with<T>(&self, body: impl FnOnce(&Sample) -> T) -> T {
        let columns: Vec<&[f32]> = self.columns.iter().map(Vec::as_slice).collect();
        body(&Sample {
            columns: &columns,
            kinds: &self.kinds,
            soft: &self.soft,
            weights: &self.weights,
            classes: self.classes,
        })
    }

    fn fit(&self, family: Family) -> Result<Box<dyn Student>> {
        self.with(|sample| fit_one(family, sample, 7, &quick()))
    }

    fn predict(&self, student: &dyn Student) -> Vec<f64> {
        let mut out = vec![0.0; self.soft.len()];
        self.with(|sample| student.predict(sample.columns, &mut out));
        out
    }
}

/// Smaller than the defaults, so that the tests are quick where nothing is optimised.
fn quick() -> Settings {
    let mut settings = Settings::default();
    (settings.boosted.rounds, settings.boosted.rounds_on_start, settings.boosted.start_rows) = (50, 20, 9000);
    (settings.forest.trees, settings.forest.max_rows) = (10, 2000);
    settings
}

fn distributions(p: &[f64], classes: usize) -> bool {
    p.chunks_exact(classes).all(|row| {
        row.iter().all(|v| (0.0..=1.0).contains(v)) && (row.iter().sum::<f64>() - 1.0).abs() < 1e-9
    })
}

fn bits(p: &[f64]) -> Vec<u64> {
    p.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_family_keeps_what_the_teacher_knows() {
    for family in Family::ALL {
        for classes in [2, 3, 5] {
            let data = Owned::usual(1500, classes);
            let student = data.fit(family).unwrap();
            let f = data.with(|sample| fidelity(student.as_ref(), sample));
            let (kl, agreement) = if family == Family::Boosted { (0.002, 0.97) } else { (0.1, 0.8) };
            assert!(f.kl < kl && f.agreement > agreement, "{} {classes}: {f:?}", family.name());
            assert_eq!((student.classes(), student.family()), (classes, family.name()));
        }
    }
}

#[test]
fn boosted_trees_of_many_rows_start_from_the_logistic_student() {
    for classes in [2, 3] {
        let data = Owned::usual(9000, classes);
        let student = data.fit(Family::Boosted).unwrap();
        let text = to_json(student.as_ref()).unwrap();
        assert!(text.contains("\"start\":{"));
        let f = data.with(|sample| fidelity(student.as_ref(), sample));
        assert!(f.kl < 1e-3, "{f:?}");
        assert_eq!(
            bits(&data.predict(student.as_ref())),
            bits(&data.predict(from_json(&text).unwrap().as_ref()))
        );
    }
}

#[test]
fn a_refit_and_a_round_trip_give_the_same_bits() {
    for family in Family::ALL {
        let data = Owned::usual(700, 3);
        let student = data.fit(family).unwrap();
        let text = to_json(student.as_ref()).unwrap();
        assert_eq!(text, to_json(data.fit(family).unwrap().as_ref()).unwrap());
        let back = from_json(&text).unwrap();
        assert_eq!(bits(&data.predict(student.as_ref())), bits(&data.predict(back.as_ref())));
        assert_eq!(text, to_json(back.as_ref()).unwrap());
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    for family in Family::ALL {
        let data = Owned::usual(9000, 2);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let student = data.fit(family).unwrap();
                (to_json(student.as_ref()).unwrap(), bits(&data.predict(student.as_ref())))
            })
        };
        assert!(on(1) == on(3), "{}", family.name());
    }
}

#[test]
fn a_row_is_predicted_the_same_alone_and_among_others() {
    for family in Family::ALL {
        let data = Owned::usual(5000, 3);
        let student = data.fit(family).unwrap();
        let all = data.predict(student.as_ref());
        for row in [0, 17, 4096, 4999] {
            let columns: Vec<&[f32]> = data.columns.iter().map(|c| &c[row..=row]).collect();
            let mut one = vec![0.0; 3];
            student.predict(&columns, &mut one);
            assert_eq!(bits(&one), bits(&all[row * 3..row * 3 + 3]));
        }
    }
}

#[test]
fn anything_can_be_predicted() {
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        1e-45,
        -0.0,
        0.0,
        -1.0,
        2.5,
        7.0,
        8.0,
        1e9,
    ];
    for family in Family::ALL {
        let student = Owned::usual(600, 3).fit(family).unwrap();
        for column in 0..3 {
            let columns: Vec<Vec<f32>> =
                (0..3).map(|j| if j == column { odd.to_vec() } else { vec![1.0; odd.len()] }).collect();
            let mut out = vec![0.0; odd.len() * 3];
            student.predict(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
            assert!(distributions(&out, 3), "{} {column}: {out:?}", family.name());
            // an infinite number, and a code that is no level, is null
            let null = &out[..3];
            let nulls: &[usize] = if column == 2 { &[1, 2, 3, 4, 8, 9, 11, 12] } else { &[1, 2] };
            nulls.iter().for_each(|&row| assert_eq!(bits(null), bits(&out[row * 3..row * 3 + 3])));
        }
        let mut out = vec![0.0; 3];
        student.predict(&[&[1.0]], &mut out);
        assert!(out.iter().all(|p| p.is_nan()));
    }
}

#[test]
fn degenerate_samples_end_as_defined() {
    let line: Vec<f32> = (0..400).map(|i| i as f32 / 100.0 - 2.0).collect();
    let separable = || {
        let mut data = Owned::usual(400, 2);
        data.columns[0] = line.clone();
        data.soft = line.iter().flat_map(|x| if *x > 0.0 { [0.0, 1.0] } else { [1.0, 0.0] }).collect();
        data
    };
    let wide = (0..60).fold(Owned::usual(20, 2), |data, j| {
        data.column((0..20).map(|i| (mix(j, i) % 100) as f32).collect(), Kind::Number)
    });
    let cases: Vec<(&str, Owned)> = vec![
        ("one row", Owned::usual(1, 2)),
        ("two rows", Owned::usual(2, 3)),
        ("one class has no mass", Owned::usual(300, 3).flat(&[0.4, 0.6, 0.0])),
        ("one class has all mass", Owned::usual(300, 2).flat(&[1.0, 0.0])),
        ("fewer rows than columns", wide),
        ("a constant column", Owned::usual(300, 2).column(vec![3.0; 300], Kind::Number)),
        ("a column of nulls", Owned::usual(300, 2).column(vec![f32::NAN; 300], Kind::Number)),
        (
            "null or one value",
            Owned::usual(300, 2)
                .column((0..300).map(|i| if i % 2 == 0 { 5.0 } else { f32::NAN }).collect(), Kind::Number),
        ),
        (
            "a category without levels",
            Owned::usual(300, 2).column(vec![f32::NAN; 300], Kind::Category { levels: 0 }),
        ),
        ("collinear columns", {
            let d = Owned::usual(300, 2);
            let a = d.columns[0].clone();
            d.column(a.iter().map(|x| 2.0 * x).collect(), Kind::Number).column(a, Kind::Number)
        }),
        (
            "huge and tiny numbers",
            Owned::usual(300, 2)
                .column((0..300).map(|i| if i % 3 == 0 { 3e38 } else { -3e38 }).collect(), Kind::Number)
                .column((0..300).map(|i| i as f32 * 1e-43).collect(), Kind::Number),
        ),
        ("perfectly separable", separable()),
        ("rows without weight", {
            let mut d = Owned::usual(300, 2);
            d.weights[..290].fill(0.0);
            d
        }),
        (
            "many levels",
            Owned::usual(600, 2)
                .column((0..600).map(|i| (i % 500) as f32).collect(), Kind::Category { levels: 500 }),
        ),
    ];
    for (name, data) in cases {
        for family in Family::ALL {
            let student = data.fit(family).unwrap_or_else(|e| panic!("{} on {name}: {e}", family.name()));
            let p = data.predict(student.as_ref());
            assert!(distributions(&p, data.classes), "{} on {name}", family.name());
            from_json(&to_json(student.as_ref()).unwrap()).unwrap();
            if name == "perfectly separable" {
                let wrong = p
                    .chunks(2)
                    .zip(data.soft.chunks(2))
                    .filter(|(p, t)| (p[1] > 0.5) != (t[1] > 0.5))
                    .count();
                assert!(wrong <= 8, "{}: {wrong}", family.name());
            }
            if name.starts_with("one class") {
                assert!(
                    p.iter().zip(&data.soft).all(|(p, t)| (p - t).abs() < 1e-3),
                    "{} on {name}: {:?}",
                    family.name(),
                    &p[..3]
                );
            }
        }
    }
}

#[test]
fn what_is_no_sample_is_refused() {
    let usual = || Owned::usual(50, 2);
    let broken: [(&str, Owned); 9] = [
        ("no rows", usual().head(0)),
        ("infinite", {
            let mut d = usual();
            d.columns[0][3] = f32::INFINITY;
            d
        }),
        ("no level", {
            let mut d = usual();
            d.columns[2][3] = 8.0;
            d
        }),
        ("half a level", {
            let mut d = usual();
            d.columns[2][3] = 0.5;
            d
        }),
        ("no distribution", {
            let mut d = usual();
            d.soft[0] = 0.9;
            d.soft[1] = 0.9;
            d
        }),
        ("soft label NaN", {
            let mut d = usual();
            d.soft[0] = f64::NAN;
            d
        }),
        ("negative weight", {
            let mut d = usual();
            d.weights[0] = -1.0;
            d
        }),
        ("no weight", {
            let mut d = usual();
            d.weights.fill(0.0);
            d
        }),
        ("lengths", {
            let mut d = usual();
            d.columns[1].pop();
            d
        }),
    ];
    for (name, data) in broken {
        for family in Family::ALL {
            assert!(data.fit(family).is_err(), "{} took {name}", family.name());
        }
    }
}

#[test]
fn auto_takes_the_best_on_held_out_accounts_and_the_smaller_of_equals() {
    let run = |train: &Owned, held: &Owned| {
        train.with(|t| held.with(|h| fit(Family::Auto, t, h, 1, &quick()).unwrap()))
    };
    let all = Owned::usual(2000, 2);
    let stepped = run(&all, &all.clone().head(500));
    assert_eq!(stepped.student.family(), "boosted");
    assert_eq!(stepped.tried.iter().map(|t| t.family).collect::<Vec<_>>(), ["logistic", "boosted"]);
    let flat = all.flat(&[0.3, 0.7]);
    assert_eq!(run(&flat, &flat).student.family(), "logistic");
}

#[test]
fn hostile_files_are_refused() {
    for family in Family::ALL {
        let text = to_json(Owned::usual(300, 2).fit(family).unwrap().as_ref()).unwrap();
        for (old, new) in [
            ("coldstart-student", "pickle"),
            ("\"version\":1", "\"version\":2"),
            ("\"classes\":2", "\"classes\":3"),
            ("\"classes\":2", "\"classes\":99999999999"),
            ("\"levels\":8", "\"levels\":1"),
            ("\"family\":", "\"evil\":1,\"family\":"),
            ("[\"number\",", "["),
            ("\"bias\":[", "\"bias\":[1e999,"),
            ("\"deviation\":", "\"deviation\":0.0,\"x\":"),
            ("\"left\":[", "\"left\":[0,"),
            ("\"leaf\":[", "\"leaf\":[1e308,"),
        ] {
            if text.contains(old) {
                assert!(from_json(&text.replacen(old, new, 1)).is_err(), "{}: {old} -> {new}", family.name());
            }
        }
        assert!(from_json(&text[..text.len() / 2]).is_err());
        assert!(from_json(&format!("{text} {{}}")).is_err());
    }
    assert!(from_json("").is_err());
    let nested = "[".repeat(100_000);
    assert!(from_json(&nested).is_err());
}

/// Rows of a few counts, mostly 0, as texts give them: many more columns than rows could ever tell apart.
fn counts(rows: std::ops::Range<u64>, columns: u64, classes: usize) -> Owned {
    let columns: Vec<Vec<f32>> = (0..columns)
        .map(|j| rows.clone().map(|i| (mix(j, i) % 40).saturating_sub(36) as f32).collect())
        .collect();
    let mut soft = Vec::new();
    let gap = |row: usize, c: usize| f64::from(columns[c][row] - columns[c + classes][row]);
    for row in 0..columns[0].len() {
        let mut z: Vec<f64> = (0..classes).map(|c| gap(row, c)).collect();
        softmax(&mut z);
        soft.extend(z);
    }
    let (kinds, weights) = (vec![Kind::Number; columns.len()], vec![1.0; columns[0].len()]);
    Owned { columns, kinds, soft, weights, classes }
}

#[test]
fn more_columns_than_rows_and_many_classes_are_fitted_in_seconds() {
    for classes in [2, 10] {
        let (train, held_out) = (counts(0..400, 900, classes), counts(400..500, 900, classes));
        let fitted =
            train.with(|train| held_out.with(|held| fit(Family::Auto, train, held, 1, &quick()).unwrap()));
        assert!(fitted.tried.iter().all(|t| t.fidelity.is_ok()), "{:?}", fitted.tried);
        assert!(fitted.fidelity.kl < 0.5, "{:?}", fitted.fidelity);
    }
}

#[test]
fn trees_that_see_some_of_the_rows_keep_the_soft_labels() {
    let data = Owned::usual(9000, 3);
    let mut settings = quick();
    (settings.boosted.rows_per_tree, settings.boosted.start_rows) = (2_000, 100_000);
    let student = data.with(|sample| fit_one(Family::Boosted, sample, 1, &settings)).unwrap();
    let f = data.with(|sample| fidelity(student.as_ref(), sample));
    assert!(f.kl < 3e-3, "{f:?}");
    let again = data.with(|sample| fit_one(Family::Boosted, sample, 1, &settings)).unwrap();
    assert_eq!(bits(&data.predict(student.as_ref())), bits(&data.predict(again.as_ref())));
}
