/// Between the neighbouring samples, as NumPy's `percentile` does.
public func percentile(_ samples: [Double], _ percent: Double) -> Double {
    let sorted = samples.sorted()
    let place = Double(sorted.count - 1) * percent / 100
    let below = Int(place)
    let above = min(below + 1, sorted.count - 1)
    return sorted[below] + (sorted[above] - sorted[below]) * (place - Double(below))
}
