# The three scales of the seed. tools/lidar/prepare.py reads this file, and so does every config: literals only.
# size, overlap: metres, share of size. points: in farthest-point order at the head of every patch. neighbours: of the
# geometric features, with points up to buffer metres beyond the tile. sor, ror: outlier flags.
patch_scales = {
    '50': dict(size=50.0, overlap=0.15, points=24576, neighbours=20, buffer=8.0, sor=dict(k=8, std=1.5),
               ror=dict(radius=0.5, neighbours=3)),
    '100': dict(size=100.0, overlap=0.12, points=24576, neighbours=25, buffer=12.0, sor=dict(k=10, std=2.0),
                ror=dict(radius=0.75, neighbours=4)),
    '150': dict(size=150.0, overlap=0.10, points=32768, neighbours=30, buffer=15.0, sor=dict(k=12, std=2.0),
                ror=dict(radius=1.0, neighbours=4)),
}
# Ground is cut into blocks first, and patches inside blocks: no patch lies in two splits. At least size + buffer.
block_size = 250.0
