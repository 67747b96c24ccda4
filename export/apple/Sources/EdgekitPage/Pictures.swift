#if canImport(CoreGraphics) && canImport(ImageIO)
    import CoreGraphics
    import EdgekitBundle
    import Foundation
    import ImageIO

    func readPicture(_ file: URL) throws -> CGImage {
        guard let source = CGImageSourceCreateWithURL(file as CFURL, nil),
            let picture = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else { throw Fault(description: "\(file.lastPathComponent) is no picture that can be read") }
        return picture
    }

    /// The picture in the input's size, as red, green, blue, unused, row by row from the top.
    func fitted(_ picture: CGImage, _ placement: Placement, width: Int, height: Int, fill: Int) throws -> [UInt8] {
        var pixels = [UInt8](repeating: UInt8(clamping: fill), count: 4 * width * height)
        let isDrawn = pixels.withUnsafeMutableBytes { bytes -> Bool in
            guard
                let context = CGContext(
                    data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                    space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.interpolationQuality = .medium
            let below = height - placement.top - placement.innerHeight  // its y goes upwards
            context.draw(
                picture, in: CGRect(x: placement.left, y: below, width: placement.innerWidth, height: placement.innerHeight))
            return true
        }
        guard isDrawn else { throw Fault(description: "the picture could not be drawn into \(width)x\(height) pixels") }
        return pixels
    }

    /// The frames of a video 1 3 T H W, or the pictures N 3 H W, of values between `low` and `high`.
    func frames(_ tensor: Tensor, low: Double, high: Double) -> [CGImage] {
        let shape = tensor.shape
        guard shape.count == 4 || (shape.count == 5 && shape[0] == 1), shape[1] == 3, high > low else { return [] }
        let isVideo = shape.count == 5
        let (count, height, width) = (isVideo ? shape[2] : shape[0], shape[shape.count - 2], shape[shape.count - 1])
        let plane = height * width
        return (0..<count).compactMap { number in
            var pixels = [UInt8](repeating: 255, count: 4 * plane)
            for channel in 0..<3 {
                let first = plane * (isVideo ? channel * count + number : number * 3 + channel)
                for index in 0..<plane {
                    let value = (Double(tensor.values[first + index]) - low) / (high - low)
                    pixels[4 * index + channel] = value.isFinite ? UInt8((255 * min(max(value, 0), 1)).rounded()) : 0
                }
            }
            guard let data = CGDataProvider(data: Data(pixels) as CFData) else { return nil }
            return CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 32, bytesPerRow: 4 * width,
                space: CGColorSpaceCreateDeviceRGB(),
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.noneSkipLast.rawValue), provider: data, decode: nil,
                shouldInterpolate: true, intent: .defaultIntent)
        }
    }
#endif
