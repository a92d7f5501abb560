//! Which vector instructions this machine has, found once and carried as a proof.

/// A level of vector instructions that the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Plain Rust: every machine, and the oracle of the tests.
    Scalar,
    /// AVX2, FMA and F16C: x86 since 2013.
    Avx2,
    /// AVX2 with 256-bit `vpdpbusd`: Intel's small cores and desktop chips since 2021.
    AvxVnni,
    /// What [`Tier::AvxVnni`] does, with AVX-512's encoding of the 256-bit `vpdpbusd`: never the best, but it proves that
    /// tier's arithmetic on a machine that has AVX-512 only.
    Vnni256,
    /// AVX-512 (F, BW, DQ, VL) with `vpdpbusd`.
    Avx512Vnni,
}

impl Tier {
    pub const ALL: [Self; 5] = [Self::Scalar, Self::Avx2, Self::AvxVnni, Self::Vnni256, Self::Avx512Vnni];

    /// The name that `INKLING_ISA` knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Vnni256 => "vnni256",
            Self::Avx512Vnni => "avx512vnni",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        match self {
            Self::Scalar => true,
            Self::Avx2 => avx2,
            Self::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
            Self::Vnni256 | Self::Avx512Vnni => {
                avx2 && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_here(self) -> bool {
        self == Self::Scalar
    }
}

/// A tier that this machine is known to have.
///
/// **Invariant**: a value exists only for a tier whose instructions were detected, so safe functions that take an `Isa` may
/// run them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Tier);

impl Isa {
    /// The best tier here, or the one that the environment variable `INKLING_ISA` names, if this machine has it.
    pub fn detect() -> Self {
        let wanted = std::env::var("INKLING_ISA").ok();
        let named = wanted.and_then(|name| Tier::ALL.into_iter().find(|tier| tier.name() == name.trim()));
        named.and_then(Self::of).or_else(|| Self::available().last().copied()).unwrap_or(Self(Tier::Scalar))
    }

    /// This tier, if the machine has it.
    pub fn of(tier: Tier) -> Option<Self> {
        tier.is_here().then_some(Self(tier))
    }

    /// Every tier of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        Tier::ALL.into_iter().filter_map(Self::of).collect()
    }

    pub fn tier(self) -> Tier {
        self.0
    }

    pub fn name(self) -> &'static str {
        self.0.name()
    }
}
