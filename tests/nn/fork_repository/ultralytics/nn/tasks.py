raise RuntimeError("this file is read, not run")


def parse_model(d, ch, verbose=True):
    max_channels = float("inf")
    repeat_modules = frozenset({C2f_Edge, C3_Strip, CSP_Two, TreeELAN})
    for i, (f, n, m, args) in enumerate(d["backbone"] + d["head"]):
        m = getattr(torch.nn, m[3:]) if "nn." in m else globals()[m]
        n = n_ = max(round(n * depth), 1) if n > 1 else n
        if m in (Conv, C2f_Edge, C3_Strip, CSP_Two, TreeELAN, RepNELAN, SPDown, *repeat_modules):
            if args[0] == "head_channel":
                args[0] = d[args[0]]
            c1, c2 = ch[f], args[0]
            if c2 != nc:
                c2 = make_divisible(min(c2, max_channels) * width, 8)
            args = [c1, c2, *args[1:]]
            if m in (RepNELAN,):
                args[2] = make_divisible(min(args[2], max_channels) * width, 8)
                args[3] = make_divisible(min(args[3], max_channels) * width, 8)
            if m in repeat_modules:
                args.insert(2, n)
                n = 1
        elif m is Doubled:
            c2 = ch[f] * 2
            args = [ch[f], c2, *args]
        elif m in {GhostStage}:
            c1, cm, c2 = ch[f], args[0], args[1]
            args = [c1, cm, c2, *args[2:]]
            args.insert(4, n)
            n = 1
        elif m in {threenet_t, fournet_s}:
            m = m(*args)
            c2 = m.channel
        elif m is Blocks:
            block_type = globals()[args[1]]
            c1, c2 = ch[f], args[0] * block_type.expansion
            args = [c1, args[0], block_type, *args[2:]]
        elif m is TokenMix:
            c1, c_up, c2 = ch[f[0]], ch[f[1]], args[0]
            c2 = make_divisible(min(c2, max_channels) * width, 8)
            args = [c1, c_up, c2, *args[1:]]
            args.insert(3, n)
            n = 1
        elif m in {LateSplit}:
            c1 = ch[f]
            c2 = [make_divisible(min(i, max_channels) * width, 8) for i in args[0]]
            args = [c1, c2]
        elif m is LastWidth:
            c1 = [ch[x] for x in f]
            args = [c1, c2]
        elif m is SumTo:
            c2 = 64
            args = [sum(ch[x] for x in f)]
        elif m is SliceCat:
            args = [*[ch[x] for x in f], *args]
        elif m is PairGate:
            c2 = ch[f[1]]
            args = [c2, *args]
        elif m in {ZeroGate}:
            c2 = ch[f]
        elif m is Fusion:
            args[0] = d[args[0]]
            c1, c2 = [ch[x] for x in f], (sum([ch[x] for x in f]) if args[0] == "concat" else ch[f[0]])
            args = [c1, args[0]]
        elif m is SideEffect:
            open("nothing")
        else:
            c2 = ch[f]
        m_ = nn.Sequential(*(m(*args) for _ in range(n))) if n > 1 else m(*args)
