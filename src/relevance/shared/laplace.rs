//! Noise on counts that leave their owner: the Laplace mechanism (Dwork et al. 2006).

use sha2::{Digest, Sha256};

/// Adds noise of one scale; the same secret gives the same noise to the same count.
#[derive(Debug, Clone)]
pub struct Laplace {
    pub scale: f64,
    secret: String,
}

impl Laplace {
    /// Whoever knows `secret` can take the noise off again.
    pub fn new(scale: f64, secret: &str) -> Self {
        Laplace { scale, secret: secret.to_string() }
    }

    /// The counts with noise, rounded. What is below scale x ln(counts), which the largest noise on as many
    /// empty counts exceeds half of the time, becomes 0: clipping alone would fill empty counts with rows
    /// that never were.
    pub fn counts(&self, name: &str, counts: &[u64]) -> Vec<u64> {
        let least = (self.scale * (counts.len() as f64).ln()).max(0.5);
        let noisy = |(i, n): (usize, &u64)| {
            let v = *n as f64 + self.draw(name, i);
            if v < least { 0 } else { v.round() as u64 }
        };
        counts.iter().enumerate().map(noisy).collect()
    }

    /// One draw, by inversion.
    fn draw(&self, name: &str, i: usize) -> f64 {
        let digest = Sha256::digest(format!("{}\n{name}\n{i}", self.secret).as_bytes());
        let bits = digest.iter().take(8).fold(0u64, |bits, b| bits << 8 | u64::from(*b));
        let u = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64 - 0.5;
        -self.scale * u.signum() * (1.0 - 2.0 * u.abs()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_scale_it_says_and_depends_on_secret_name_and_place() {
        let noise = Laplace::new(3.0, "secret");
        let draws: Vec<f64> = (0..20_000).map(|i| noise.draw("age", i)).collect();
        let mean = |of: &dyn Fn(&f64) -> f64| draws.iter().map(of).sum::<f64>() / draws.len() as f64;
        assert!(mean(&|v| *v).abs() < 0.1 && (mean(&|v| v.abs()) - 3.0).abs() < 0.1, "E|x| is the scale");
        assert_eq!(noise.draw("age", 7).to_bits(), draws[7].to_bits());
        assert_ne!(noise.draw("job", 7).to_bits(), draws[7].to_bits());
        assert_ne!(Laplace::new(3.0, "other").draw("age", 7).to_bits(), draws[7].to_bits());
    }

    #[test]
    fn counts_stay_counts_and_empty_ones_mostly_empty() {
        let noise = Laplace::new(5.0, "secret");
        let empty = noise.counts("empty", &[0; 1000]);
        assert!(empty.iter().filter(|n| **n > 0).count() < 5);
        let full = noise.counts("full", &[10_000; 100]);
        assert!(full.iter().all(|n| n.abs_diff(10_000) < 80));
        assert!(full.iter().any(|n| *n != 10_000));
    }
}
